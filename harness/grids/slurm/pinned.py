"""Copy of the sources that a grid was submitted with: jobs start hours later, and somebody edits the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from backbones.errors import InputError
from backbones.files import PARTIAL
from harness import provenance
from harness.grids.identity import PACKAGE

ROOMS = ("backbones", "tasks", "harness", "leaderboards")
WEIGHTS = ".safetensors"  # known to the identity by their hash wherever they decide a number; here by their size


def copy(folder: Path) -> Path:
    """Copy the package's sources below `folder`, once for each state of them; returns the folder to import from.

    Jobs import from the copy, and `run_cell` still compares its hash with that of the identity. The commit that the
    rows name goes with it.

    Raises:
        InputError: it cannot be written.
    """
    files = sorted(path for room in ROOMS for path in (PACKAGE / room).rglob("*") if _belongs(path))
    target = folder / _hash(files)[:16]
    if target.is_dir():
        return target
    partial = folder / f"{target.name}.{os.getpid()}{PARTIAL}"
    try:
        for path in files:
            place = partial / path.relative_to(PACKAGE)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        (partial / provenance.COMMIT).write_text(provenance.package_commit())
        _move(partial, target)
    except OSError as error:
        raise InputError(
            f"The sources cannot be copied to {target} ({error.strerror}), from where the jobs would import them. Free "
            "some space or fix the permissions, and run the same command again."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _belongs(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256(provenance.package_commit().encode())
    for path in files:
        content = str(path.stat().st_size).encode() if path.suffix == WEIGHTS else path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _move(partial: Path, target: Path) -> None:
    """Give the copy its name; another command may have made the same one meanwhile."""
    try:
        partial.rename(target)
    except OSError:
        if not target.is_dir():
            raise
