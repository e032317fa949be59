"""Samples as arrays, from which one is made when it is asked for.

A million samples as Python objects take a gigabyte in every process, and as much again in every loader worker: to look
at an object is to count a reference, which writes to its memory and so ends the sharing. Bytes in an array have no
counts. The engine packs what an adapter returns as a list, lets one process of each node read, and maps the arrays in
the others (`harness.node_samples`).
"""

from __future__ import annotations

import operator
import pickle
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, overload

import numpy as np

from tasks.adapter import Sample

Which = slice | Sequence[int] | np.ndarray


class CompactSamples(Sequence[Sample]):
    """Samples whose bulk is in NumPy arrays, so that they can be mapped; an adapter may return its own kind."""

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """One sample, made anew."""

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

    content: uint8, the pickles one after another. places: int64 [samples, 2], where each begins and ends. common: the
    fields of `inputs` that all samples share as one object, such as a list of classes.
    """

    content: np.ndarray
    places: np.ndarray
    common: Mapping[str, Any]

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Packed:
        """Pack samples, which need not be in memory at once."""
        rest = iter(samples)
        first = list(islice(rest, 2))
        common = _common(first)
        content, ends = bytearray(), array("q", [0])
        for sample in chain(first, rest):
            content += pickle.dumps(_bare(sample, common), protocol=pickle.HIGHEST_PROTOCOL)
            ends.append(len(content))
        bounds = np.frombuffer(ends, np.int64)
        return cls(np.frombuffer(content, np.uint8), np.stack([bounds[:-1], bounds[1:]], 1), common)

    def __len__(self) -> int:
        return len(self.places)

    def sample(self, index: int) -> Sample:
        first, last = self.places[index]
        name, inputs, annotation, *whole = pickle.loads(self.content[first:last])
        return Sample(name, inputs if whole or not self.common else {**inputs, **self.common}, annotation)

    def chosen(self, which: Which) -> Packed:
        return replace(self, places=self.places[which])


def _common(first: Sequence[Sample]) -> dict[str, Any]:
    """Inputs that the first samples share and that are worth sharing: no texts and numbers."""
    inputs = [sample.inputs for sample in first]
    if len(inputs) < 2 or not all(isinstance(fields, dict) for fields in inputs):
        return {}
    return {
        name: value
        for name, value in inputs[0].items()
        if inputs[1].get(name) is value and not isinstance(value, str | bytes | int | float | None)
    }


def _bare(sample: Sample, common: Mapping[str, Any]) -> tuple:
    """The sample's fields without the common ones, or a fourth field when it has others."""
    if not common:
        return tuple(sample)
    if not all(sample.inputs.get(name) is value for name, value in common.items()):
        return (*sample, "whole")
    return sample.id, {name: value for name, value in sample.inputs.items() if name not in common}, sample.annotation
