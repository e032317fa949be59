"""Runs that differ in the seed alone: reading `--seeds`, and the table of their means and standard deviations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from backbones.errors import UsageError
from harness.output import table
from leaderboards.spread import FEW, Spread

if TYPE_CHECKING:
    from rich.console import Console


def parsed(text: str) -> tuple[int, ...]:
    """The seeds of a text such as 0,1,2.

    Raises:
        UsageError: not whole numbers from 0 with commas between, or one of them twice.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"--seeds takes whole numbers from 0 with commas between, such as 0,1,2, not {text!r}.")
    seeds = tuple(int(word) for word in words)
    if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise UsageError(
            f"--seeds has {twice[0]} twice: a seed that is run again gives the same number. Leave one out."
        )
    return seeds


def seeds_table(spreads: Sequence[Spread]) -> Callable[[Console], None]:
    """Render means and standard deviations over seeds, with the single values where there are few."""
    columns = ("task", "split", "metric", "mean", "standard deviation", "seeds", "single seeds")
    rows = [
        (each.task, each.split, each.metric, f"{each.mean:.3f}", deviation(each.sd), str(len(each.seeds)), points(each))
        for each in spreads
    ]
    return table("Over seeds", columns, rows)


def deviation(sd: float | None) -> str:
    """A standard deviation as a text; a dash where one value has none."""
    return "–" if sd is None else f"{sd:.3f}"


def points(spread: Spread) -> str:
    """The single values, where there are too few of them for their spread to say much."""
    return " ".join(f"{value:.3f}" for value in spread.values) if len(spread.values) < FEW else ""
