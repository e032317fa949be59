"""Samples as arrays, from which one is made when it is asked for.

A million samples as Python objects take a gigabyte in every process, and as much again in every loader worker: to look
at an object is to count a reference, which writes to its memory and so ends the sharing. Bytes in an array have no
reference counts. The engine packs what an adapter returns as a list, lets one process of each node read, and maps the
arrays in the others (`harness.node_samples`).
"""

from __future__ import annotations

import operator
import pickle
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from tasks.adapter import Sample

Which = slice | Sequence[int] | np.ndarray


class CompactSamples(Sequence[Sample]):
    """Samples whose bulk is in NumPy arrays, so that they can be mapped; an adapter may return its own kind."""

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """A new copy of one sample."""

    @abstractmethod
    def chosen(self, which: Which) -> CompactSamples:
        """Some of the samples, in the order that is asked for."""

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> CompactSamples: ...
    def __getitem__(self, index: int | slice) -> Sample | CompactSamples:
        if isinstance(index, slice):
            return self.chosen(index)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.sample(index)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.sample, range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of equal samples."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None


@dataclass(frozen=True, eq=False)
class Packed(CompactSamples):
    """Samples of any kind, each pickled on its own.

    content: uint8, the pickles one after another. bounds: int64 [samples, 2], where each begins and ends.
    """

    content: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Packed:
        """Pack samples, which need not be in memory at once."""
        content, ends = bytearray(), array("q", [0])
        for sample in samples:
            content += pickle.dumps(tuple(sample), protocol=pickle.HIGHEST_PROTOCOL)
            ends.append(len(content))
        limits = np.frombuffer(ends, np.int64)
        return cls(np.frombuffer(content, np.uint8), np.stack([limits[:-1], limits[1:]], 1))

    def __len__(self) -> int:
        return len(self.bounds)

    def sample(self, index: int) -> Sample:
        first, last = self.bounds[index]
        return Sample(*pickle.loads(self.content[first:last]))

    def chosen(self, which: Which) -> Packed:
        return replace(self, bounds=self.bounds[which])
