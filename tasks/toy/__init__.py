"""The procedural data set: drawn by our own code from a seed, written in the benchmarks' own file formats.

The adapters cannot tell it from the real thing. A picture depends on the seed, its split and its number alone, so the
same call writes the same bytes, and more pictures do not change the first ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from backbones.errors import InputError, unknown
from tasks.adapter import Progress
from tasks.toy import ade20k, coco, flickr30k, imagenet, nlvr2, nocaps
from tasks.toy.folder import begin, finish

__all__ = ["FOLDERS", "write"]

FOLDERS = {
    "imagenet": imagenet, "ade20k": ade20k, "nlvr2": nlvr2, "coco": coco, "flickr30k": flickr30k, "nocaps": nocaps,
}  # fmt: skip
"""By name; `FOLDER` of each is what it is called on disk."""

SMALLEST = 32  # pixels; below, shapes and patterns are no longer told apart


def write(
    root: str | Path,
    *,
    seed: int = 0,
    tasks: Iterable[str] = tuple(FOLDERS),
    scale: float = 1.0,
    image_size: int = 80,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Draw the data set under `root`; returns its folders by name.

    Done again with the same arguments it draws nothing; after an interruption it draws what is missing. One process
    at a time may write to a root.

    Args:
        tasks: folders to write, of `FOLDERS`; `coco` has the files of VQAv2, captioning, retrieval and detection.
        scale: of the number of pictures; each split keeps a dozen or so.
        image_size: pixels, at least 32; the side of square pictures. ADE20K's are twice as large and those of COCO's
            instances three times (the longer side; not all are square), since what is on them is smaller.
        progress: wraps an iterable in a progress bar with a title.

    Raises:
        InputError: an argument is out of range, a folder holds something else, or cannot be written.
        UsageError: there is no such task.
    """
    names = list(tasks)
    for name in names:
        if name not in FOLDERS:
            raise unknown("toy data set", name, FOLDERS)
    for option, value, right in (
        ("seed", seed, seed >= 0),
        ("scale", scale, 0 < scale < float("inf")),
        ("image_size", image_size, image_size >= SMALLEST),
    ):
        if not right:
            least = {"seed": "0 or more", "scale": "more than 0", "image_size": f"{SMALLEST} or more"}[option]
            raise InputError(f"The toy data set cannot be drawn to {root}: {option} is {value}. Give {least}.")
    folders = {name: Path(root) / FOLDERS[name].FOLDER for name in names}
    for name, folder in folders.items():
        try:
            _write(name, folder, seed=seed, scale=scale, image_size=image_size, progress=progress)
        except OSError as error:
            raise InputError(
                f"The toy data set cannot be written to {folder} ({error.strerror or error}). Free some space or "
                "choose another folder; the same command goes on where it stopped."
            ) from error
    return folders


def _write(name: str, folder: Path, *, seed: int, scale: float, image_size: int, progress: Progress | None) -> None:
    form = FOLDERS[name]
    sizes = {split: max(form.LEAST, round(scale * size)) for split, size in form.SIZES.items()}
    if not begin(folder, {"version": form.VERSION, "seed": seed, **sizes, "image_size": image_size}):
        form.write(folder, sizes, seed=seed, image_size=image_size, progress=progress)
        finish(folder)
