"""Content of run folders besides rows: learning curves, classes and pictures. What is not there is left out."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from leaderboards.report.plots import Curve

POINTS = 300  # of a curve, evenly spaced; more are not told apart in a plot


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A run's folder as the report shows it. pictures: names and data addresses."""

    name: str
    losses: Sequence[Curve]
    validations: Sequence[Curve]
    classes: Sequence[tuple[str, ...]]
    pictures: Sequence[tuple[str, str]]


def folders(paths: Sequence[str | Path], *, pictures: int) -> list[RunFolder]:
    """The run folders at or below some paths, those that have something to show.

    Args:
        pictures: how many of each run's to take in.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found |= {file.parent: None for file in sorted(path.rglob("run.json"))}
        elif path.name == "results.csv":
            found |= {file.parent: None for file in sorted(path.parent.rglob("run.json"))}
    runs = [_folder(path, pictures) for path in found]
    return [run for run in runs if run.losses or run.validations or run.classes or run.pictures]


def _folder(path: Path, pictures: int) -> RunFolder:
    images = sorted((path / "pictures").rglob("*.png"))[:pictures]
    return RunFolder(
        name=f"{path.parent.name}/{path.name}",
        losses=_losses(path / "checkpoints" / "log" / "scalars.jsonl"),
        validations=_validations(path / "validation.csv"),
        classes=_classes(path / "classes.csv"),
        pictures=[(image.stem, _address(image)) for image in images],
    )


def _losses(file: Path) -> list[Curve]:
    points = [
        (float(line["step"]), float(line["loss"])) for line in _json_lines(file) if "loss" in line and "step" in line
    ]
    return [Curve(label="loss", points=_thinned(points))] if len(points) > 1 else []


def _validations(file: Path) -> list[Curve]:
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in _lines(file):
        try:
            curves.setdefault(f"{row['split']} {row['metric']}", []).append((float(row["step"]), float(row["value"])))
        except (KeyError, TypeError, ValueError):  # a line that is being written, or a value that could not be computed
            continue
    return [Curve(label=name, points=_thinned(points)) for name, points in curves.items() if len(points) > 1][:6]


def _classes(file: Path) -> list[tuple[str, ...]]:
    names = ("of", "split", "metric", "value", "low", "high", "n")
    return [tuple(_shown(row.get(name) or "") for name in names) for row in _lines(file)]


def _shown(text: str) -> str:
    try:
        return f"{float(text):.2f}" if "." in text else text
    except ValueError:
        return text


def _address(image: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(image.read_bytes()).decode()


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    step = -(-len(points) // POINTS) or 1
    return [*points[::step], *points[-1:]] if step > 1 else list(points)


def _lines(file: Path) -> Iterator[dict[str, str]]:
    if file.is_file():
        with file.open(newline="", encoding="utf-8", errors="replace") as lines:
            yield from csv.DictReader(lines)


def _json_lines(file: Path) -> Iterator[dict]:
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
