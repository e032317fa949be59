from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from tasks.adapter import Sample, chosen
from tasks.common.packing import Packed

CLASSES = {3: "cat", 1: "dog"}
SAMPLES = [
    Sample("a", {"image": Path("x/a.jpg"), "classes": CLASSES, "text": [5, 6]}, {"label": 1, "scores": (0.1, 2)}),
    Sample("b", {"image": Path("x/b.jpg"), "classes": CLASSES, "text": "ü"}, None),
    Sample("c", {"image": Path("x/c.jpg"), "classes": dict(CLASSES), "text": ""}, {"label": None}),
    Sample("d", {"image": Path("x/d.jpg")}, {}),
    Sample("e", "no fields at all", 7),
]


def test_samples_come_back_as_they_were() -> None:
    packed = Packed.of(iter(SAMPLES[:4]))
    assert len(packed) == 4
    assert list(packed) == [packed[index] for index in range(4)] == SAMPLES[:4]
    assert packed[-1] == SAMPLES[3]
    assert isinstance(packed[0], Sample)
    assert list(Packed.of(SAMPLES[4:])) == SAMPLES[4:]
    assert list(Packed.of([])) == []
    for wrong in (4, -5):
        with pytest.raises(IndexError):
            packed[wrong]


def test_parts_are_chosen_without_copying_the_content() -> None:
    packed = Packed.of(SAMPLES[:4])
    for part in (packed[1:3], packed.chosen([1, 2]), chosen(packed, np.array([1, 2]))):
        assert list(part) == SAMPLES[1:3]
        assert part.content is packed.content
    assert list(packed[::-1].chosen([0])) == [SAMPLES[3]]
    assert chosen(SAMPLES, [4, 0]) == [SAMPLES[4], SAMPLES[0]]


def test_nothing_but_arrays_goes_through_a_pickle() -> None:
    buffers: list[pickle.PickleBuffer] = []
    packed = Packed.of([Sample(str(n), {"image": f"{n}.jpg"}, {"label": n}) for n in range(1000)])
    assert len(pickle.dumps(packed, protocol=5, buffer_callback=buffers.append)) < 600
    assert sum(buffer.raw().nbytes for buffer in buffers) == packed.content.nbytes + packed.bounds.nbytes
