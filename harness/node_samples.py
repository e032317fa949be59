"""Samples that one process of each node reads and all its processes map into memory."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from backbones.errors import InputError, UsageError
from harness import distributed
from tasks.adapter import Sample
from tasks.common.packing import CompactSamples, Packed

_ALIGNED = 64  # bytes; where an array in the file may begin


def once_per_node(read: Callable[[], Sequence[Sample]]) -> CompactSamples:
    """Samples that `read` returns, read by the first process of each node; every process has to call.

    The arrays are in a temporary file (in `TMPDIR`) that all processes of the node map and that is removed at once: it
    lives as long as a process has it mapped. So they are in memory once, and may leave it when memory is short.

    Raises:
        InputError, UsageError: as `read` does, in every process; no space for the file.
    """
    here = socket.gethostname()
    nodes = distributed.from_all(here)
    reads = distributed.rank() == nodes.index(here)
    outcomes = distributed.from_all(_written(read) if reads else None)
    path = outcomes[nodes.index(here)]
    try:
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        samples = _mapped(path)
        distributed.barrier()  # every process has the file open
    finally:
        if reads and isinstance(path, Path):
            path.unlink(missing_ok=True)
    return samples


def _written(read: Callable[[], Sequence[Sample]]) -> Path | InputError | UsageError:
    """Write the samples to a file; errors are returned, since raised here they would leave other processes waiting."""
    try:
        samples = read()
        return _write(samples if isinstance(samples, CompactSamples) else Packed.of(samples))
    except (InputError, UsageError) as error:
        return error


def _write(samples: CompactSamples) -> Path:
    """Write a file: the positions of all parts, then a pickle with everything but the arrays, then each array."""
    buffers: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(samples, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    parts = [memoryview(rest), *(buffer.raw() for buffer in buffers)]
    places = np.zeros((len(parts), 2), np.int64)
    end = 8 + places.nbytes
    for number, part in enumerate(parts):
        begin = -(-end // _ALIGNED) * _ALIGNED
        end = begin + part.nbytes
        places[number] = begin, end
    handle, name = tempfile.mkstemp(prefix="multiway-samples-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(np.int64(len(parts)).tobytes() + places.tobytes())
            for (begin, _), part in zip(places.tolist(), parts, strict=True):
                file.seek(begin)
                file.write(part)
            file.truncate(end)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"The samples need {end / 2**20:,.0f} MiB in a temporary file, and {Path(name).parent} is full. Free some "
            "space, or point the environment variable TMPDIR at a folder on a larger disk of this machine."
        ) from error
    return Path(name)


def _mapped(path: Path) -> CompactSamples:
    content = np.asarray(np.memmap(path, mode="r", dtype=np.uint8))
    count = int(content[:8].view(np.int64)[0])
    places = content[8 : 8 + 16 * count].view(np.int64).reshape(count, 2)
    rest, *buffers = (content[begin:end] for begin, end in places.tolist())
    # The file is this run's own, made by this user a moment ago and readable by no one else.
    return pickle.loads(rest, buffers=buffers)
