"""Checks of a call that need neither the data nor PyTorch, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from backbones.errors import InputError, UsageError
from harness import logs
from harness.experiment import require_name, require_seed, resolve
from tasks import registry

T = TypeVar("T")

RESOLVED = ("backbone", "data", "weights", "tokenizer", "recipe", "changes", "split", "limit")


def require(names: Sequence[str], *, log: Sequence[str] = (), show: int = 0, **options: Any) -> None:
    """Check a call for all its tasks at once.

    Args:
        names: of the tasks.
        log, show: see `harness.api.run`.
        options: those of `harness.experiment.plan`.

    Raises:
        InputError: what `plan` raises, of all tasks that are refused; a logger that is not installed.
        UsageError: pictures of tasks that have none.
    """
    require_name(options.get("name"))
    require_seed(options.get("seed", 0))
    for_each(names, lambda name: resolve(name, **{key: options[key] for key in RESOLVED if key in options}))
    logs.require(log)
    _require_pictures(names, count=show)


def _require_pictures(names: Sequence[str], *, count: int) -> None:
    if count < 0:
        raise UsageError(f"--show takes a number of pictures from 0, not {count}.")
    if count and not any(registry.get(name).pictures for name in names):
        drawn = ", ".join(name for name in registry.BUILT_IN if registry.get(name).pictures)
        raise UsageError(
            f"There are no pictures of {', '.join(names)}'s predictions, only of {drawn}: leave out --show."
        )


def require_truth(task: str, splits: Sequence[str] | None) -> None:
    """Check that one of the splits can be scored here.

    Raises:
        UsageError: the truth of none of them is public.
    """
    adapter = registry.get(task)
    names = splits or [adapter.eval_split]
    if not any(adapter.split(name).labels for name in names):
        raise UsageError(
            f"The truth of {task}'s split {names[0]} is not public ({adapter.split(names[0]).server} scores it). Leave "
            f"out --score; `harness submit {task}` writes the server's file afterwards."
        )


def for_each(names: Sequence[str], make: Callable[[str], T]) -> list[T]:
    """Make something of each task.

    Raises:
        InputError: that of a task or of all; several in one that says which tasks are refused and why.
    """
    made, refused = [], {}
    for name in names:
        try:
            made.append(make(name))
        except InputError as error:
            refused[name] = error
    if not refused:
        return made
    first, *others = refused.values()
    if len(names) == 1 or (len(refused) == len(names) and all(str(error) == str(first) for error in others)):
        raise first
    reasons = " ".join(f"{name}: {error}" for name, error in refused.items())
    raise UsageError(f"Nothing was started, since {len(refused)} of {len(names)} tasks cannot be run so. {reasons}")
