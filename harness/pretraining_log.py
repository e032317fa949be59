"""Figures of a pretraining: losses, accuracies, codebook usage and speed in a CSV, and their curves as a picture."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import nn

from backbones.files import reading
from harness import distributed, peak
from harness.device import describe, device
from harness.workdir import write_bytes

ROWS = "figures.csv"
CURVES = "figures.png"
ROWS_A_TRAINING = 200

Figures = Callable[[nn.Module], Mapping[str, float]]


class PretrainingLog:
    """Hook of the training loop that writes a row of figures at regular steps.

    Args:
        folder: of the run; `figures.csv` has a row for each time, each step's once, interrupted or not.
        figures: asked of the model, in every process.
        samples_per_step: of all kinds together, over all processes.
        flops_per_step: see `peak.step_flops`, over all processes.
    """

    seconds = 0.0  # too few to be counted
    apart = False  # every process asks for the same figures

    def __init__(self, folder: Path, figures: Figures, *, samples_per_step: int, flops_per_step: float) -> None:
        self._path = folder / ROWS
        self._figures = figures
        self._samples = samples_per_step
        self._flops = flops_per_step
        self._since: tuple[int, float] | None = None

    def due(self, step: int, *, steps_per_epoch: int, last: int) -> bool:
        """Decide whether a row is written after `step` of `last` steps."""
        if self._since is None:
            self._since = (step, time.monotonic())
        return step == last or step % max(1, last // ROWS_A_TRAINING) == 0

    def __call__(self, model: nn.Module, *, step: int, epoch: float) -> dict[str, float]:
        """Write a row; returns its figures under the names of the training's own logs."""
        figures = dict(self._figures(model))
        row = {"step": step, "epoch": round(epoch, 4), **self._speed(step), **figures}
        distributed.decided(lambda: self._add(row))
        return {f"pretraining/{name}": value for name, value in figures.items()}

    def _speed(self, step: int) -> dict[str, float | str | None]:
        """Throughput since the row before, validation and checkpoints included; None in the first row."""
        (before, since), now = self._since, time.monotonic()
        self._since = (step, now)
        if step == before:
            return {"samples_per_second": None, "peak_share": None}
        seconds = (now - since) / (step - before)
        part = peak.share(self._flops, seconds, describe(device()), devices=distributed.world_size())
        return {
            "samples_per_second": round(self._samples / seconds, 1),
            "peak_share": part if isinstance(part, str) else round(part, 4),
        }

    def _add(self, row: Mapping[str, float | str | None]) -> None:
        rows = [old for old in read(self._path) if int(old["step"]) < row["step"]]
        rows.append({name: "" if value is None else str(value) for name, value in row.items()})
        names = list(dict.fromkeys(name for each in rows for name in each))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_bytes(self._path, text.getvalue().encode())


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a figures.csv; none where there is no file."""
    if not path.is_file():
        return []
    with (
        reading(path, "figures of the training", fix="Remove it: they begin again."),
        path.open(newline="", encoding="utf-8") as file,
    ):
        rows = list(csv.DictReader(file))
        for row in rows:
            if None in row or None in row.values():
                raise ValueError(f"step {row.get('step')} has another number of cells than the first line")
            int(row["step"])
        return rows


def draw(folder: Path) -> Path | None:
    """Draw the curves of `figures.csv` beside it, one panel for each kind of figure; None without figures."""
    rows = read(folder / ROWS)
    names = [name for name in (rows[0] if rows else {}) if any(_is_number(row[name]) for row in rows)]
    names = [name for name in names if name not in ("step", "epoch")]
    panels = _panels(names)
    if not panels:
        return None
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.5 * len(panels), 3.5), squeeze=False)
    for axis, (title, own) in zip(axes[0], panels.items(), strict=True):
        for name in own:
            points = [(int(row["step"]), float(row[name])) for row in rows if _is_number(row[name])]
            axis.plot(*zip(*points, strict=True), label=name.removesuffix(f"_{title}").replace("_", " "))
        axis.set(title=title.replace("_", " "), xlabel="step")
        if len(own) > 1:
            axis.legend()
    figure.tight_layout()
    figure.savefig(folder / CURVES, dpi=110)
    pyplot.close(figure)
    return folder / CURVES


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:  # empty, or an unknown device
        return False
    return True


def _panels(names: Sequence[str]) -> dict[str, list[str]]:
    """Names of figures by what they measure: losses share a panel, and so do accuracies."""
    panels: dict[str, list[str]] = {}
    for name in names:
        kind = next((kind for kind in ("loss", "accuracy") if name.endswith(kind)), name)
        panels.setdefault(kind, []).append(name)
    return panels
