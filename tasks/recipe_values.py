"""Types and ranges of recipe fields, checked when a recipe is made: NaN and numbers that no training could use go."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from backbones.errors import UsageError

USUAL = "[0, 1e9]"  # of a number whose class states no interval
_KINDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}


def require_types(recipe: Any) -> None:
    """Check that every field of a recipe has a value of its type.

    Raises:
        UsageError: one has not; the message names it.
    """
    for name, kind in _types(type(recipe)).items():
        value = getattr(recipe, name)
        if not _is(value, kind):
            raise UsageError(f"Recipe field {name} is {_described(kind)}, not {value!r:.60}.")


def require_ranges(recipe: Any, ranges: Mapping[str, str]) -> None:
    """Check that every number of a recipe, in tuples too, is in its interval.

    Args:
        ranges: intervals by field, such as "[0, 1)" for at least 0 and less than 1; `USUAL` of other numbers.

    Raises:
        UsageError: one is not; the message names it.
    """
    for name in _types(type(recipe)):
        value = getattr(recipe, name)
        numbers = value if isinstance(value, tuple) else (value,)
        interval = ranges.get(name, USUAL)
        contains = _interval(interval)
        if any(type(number) in (int, float) and not contains(number) for number in numbers):
            each = "Each number of recipe" if isinstance(value, tuple) else "Recipe"
            raise UsageError(f"{each} field {name} is in {interval}, not {value!r:.60}.")


@cache
def _types(recipe: type) -> dict[str, Any]:
    found = get_type_hints(recipe)
    return {name: kind for name, kind in found.items() if get_origin(kind) is not ClassVar}


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
    if kind in (int, bool, str):
        return type(value) is kind
    if kind is type(None):
        return value is None
    options = get_args(kind)
    if get_origin(kind) is tuple:
        inner = options[:1] * len(value) if isinstance(value, tuple) and options[1:] == (...,) else options
        return (
            isinstance(value, tuple)
            and len(value) == len(inner)
            and all(_is(each, own) for each, own in zip(value, inner, strict=True))
        )
    if options and isinstance(options[0], str):  # a Literal
        return value in options
    return any(_is(value, option) for option in options)


def _described(kind: Any) -> str:
    options = get_args(kind)
    if kind in _KINDS:
        return _KINDS[kind]
    if get_origin(kind) is tuple:
        length = "a list" if options[1:] == (...,) else f"{len(options)}"
        return f"{length} of numbers" if options[0] is not str else f"{length} of texts"
    if options and isinstance(options[0], str):
        return f"one of {', '.join(options)}"
    return " or ".join("none" if option is type(None) else _described(option) for option in options)


@cache
def _interval(text: str) -> Callable[[float], bool]:
    low, high = (float(number) for number in text[1:-1].split(","))
    above, below = text[0] == "(", text[-1] == ")"
    return lambda x: (x > low if above else x >= low) and (x < high if below else x <= high)
