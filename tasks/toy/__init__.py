"""The procedural data set: drawn by our own code from a seed, written in the benchmarks' own file formats.

The adapters cannot tell it from the real thing. A picture depends on the seed, its split and its number alone, so the
same call writes the same bytes, and more pictures do not change the first ones.
"""

from __future__ import annotations

from pathlib import Path

from backbones.errors import InputError
from tasks.adapter import Progress
from tasks.toy.imagenet import write_imagenet

__all__ = ["write"]


def write(
    root: str | Path,
    *,
    seed: int = 0,
    train: int = 3000,
    val: int = 500,
    image_size: int = 80,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Draw the data set under `root`, one folder per benchmark; returns them by task name.

    Done again with the same arguments it draws nothing; after an interruption it draws what is missing. One process
    at a time may write to a root.

    Args:
        train, val: pictures of each split, at least one per class.
        image_size: pixels, square, at least 32.
        progress: wraps an iterable in a progress bar with a title.

    Raises:
        InputError: an argument is out of range, a folder holds something else, or cannot be written.
    """
    folder = Path(root) / "imagenet"
    try:
        write_imagenet(folder, seed=seed, train=train, val=val, image_size=image_size, progress=progress)
    except OSError as error:
        raise InputError(
            f"The toy data set cannot be written to {folder} ({error.strerror or error}). Free some space or choose "
            "another folder; the same command goes on where it stopped."
        ) from error
    return {"imagenet": folder}
