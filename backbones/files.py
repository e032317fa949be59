"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from backbones.errors import InputError

PARTIAL = ".partial"  # ends the name of a file that is not whole yet
# What locking says on file systems that have none: NFS without its lock service, some of FUSE and of HPC sites.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def reading(path: Path | str, what: str, *, fix: str = "Copy or download it again.") -> Iterator[None]:
    """Read a user's file: whatever is wrong with its content becomes an `InputError` with its path.

    An `InputError` from inside says more and is passed on, with the path behind it where it lacks one.

    Args:
        what: the file in words, such as "weights".
        fix: a sentence.
    """
    try:
        yield
    except InputError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{error} ({path})", options=error.options) from error
    except Exception as error:  # a damaged file makes any library raise anything
        raise InputError(f"{path} ({what}) cannot be read: {reason(error)}. {fix}") from error


def reason(error: Exception) -> str:
    """The first line of an error, with its type where the text alone says little."""
    text = next(iter(str(error).strip().splitlines()), "")[:200].rstrip(".")
    plain = isinstance(error, OSError | UnicodeError) and text
    return text if plain else f"{type(error).__name__}{': ' + text if text else ''}"


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield the path of a new file beside `path` to write, which then takes its place; its folder is made.

    Where writing fails, the new file is removed and the old one is as it was.

    Args:
        sync: wait for the disk, so that after a power cut the old file or the new one is there as a whole. Without it
            a file may be empty then: for many small files that are easily made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(path)
    try:
        yield partial
        _with_usual_mode(partial)
        if sync:
            move_into_place(partial, path)
        else:
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def lock(file: IO[Any], *, wait: bool) -> bool:
    """Lock an open file against other processes (advisory) until it is closed.

    Returns:
        False on a file system that has no locks, where only one process may write.

    Raises:
        BlockingIOError: without `wait`, another process holds the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def require_checksums(path: Path) -> None:
    """Compare every part of a zip file, such as PyTorch's, with its checksum.

    Raises:
        ValueError: one differs.
    """
    with zipfile.ZipFile(path) as archive:
        if (broken := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {broken} is wrong")


def _with_usual_mode(file: Path) -> None:
    """Give a file the mode that the user's umask gives, which some libraries do not."""
    mask = os.umask(0)
    os.umask(mask)
    mode = 0o666 & ~mask
    if file.stat().st_mode & 0o777 != mode:
        file.chmod(mode)


def partial_name(path: Path) -> Path:
    """Path that `replacing` writes to before the file gets its name."""
    return path.with_name(path.name + PARTIAL)


def move_into_place(partial: Path, path: Path) -> None:
    """Rename a finished file; after a power cut the old one or the new one is there, and never an empty one."""
    _sync(partial)
    partial.replace(path)
    with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
        _sync(path.parent)


def require_weights(path: str | Path) -> None:
    """Raise an InputError when there is no such weights file."""
    if not Path(path).is_file():
        raise InputError(f"No weights file at {path}. Give the path of a .safetensors, .pth or .pkl file.")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
