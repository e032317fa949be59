from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from backbones import InputError, UsageError
from harness import distributed, node_samples
from harness.node_samples import once_per_node
from tasks.adapter import Sample
from tasks.common.packing import CompactSamples, Packed
from tests.harness.read_once import SAMPLES
from tests.support import processes
from tests.support.processes import ENVIRONMENT


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_any_sequence_is_packed_and_mapped_and_no_file_stays(temporary: Path) -> None:
    for given in (SAMPLES, tuple(SAMPLES), Packed.of(SAMPLES)):
        samples = once_per_node(lambda given=given: given)
        assert isinstance(samples, CompactSamples)
        assert list(samples) == SAMPLES
        assert not samples.content.flags.writeable
    assert not list(temporary.iterdir())
    assert len(once_per_node(list)) == 0


def test_a_kind_of_ones_own_comes_back_as_it_is(temporary: Path) -> None:
    samples = once_per_node(lambda: Squares(np.arange(10)))
    assert isinstance(samples, Squares)
    assert isinstance(_owner(samples.roots), np.memmap)
    assert [sample.annotation for sample in samples[8:]] == [64, 81]


class Squares(CompactSamples):
    def __init__(self, roots: np.ndarray) -> None:
        self.roots = roots

    def __len__(self) -> int:
        return len(self.roots)

    def sample(self, index: int) -> Sample:
        return Sample(str(self.roots[index]), {}, int(self.roots[index]) ** 2)

    def chosen(self, which: Sequence[int]) -> Squares:
        return Squares(self.roots[which])


def _owner(array: np.ndarray) -> object:
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base if not isinstance(array.base, memoryview) else array.base.obj
    return array


@pytest.mark.parametrize("error", [InputError("no images"), UsageError("no such split")])
def test_an_error_is_told_as_it_was(temporary: Path, error: Exception) -> None:
    def read() -> list[Sample]:
        raise error

    with pytest.raises(type(error), match=str(error)):
        once_per_node(read)
    assert not list(temporary.iterdir())


def test_an_error_on_another_node_stops_this_one_too(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would wait for that node at the next thing that all do together."""
    answers = iter([[node_samples.socket.gethostname(), "other"]])
    other = InputError("no images on the other node")
    monkeypatch.setattr(distributed, "from_all", lambda value: next(answers, [value, other]))
    with pytest.raises(InputError, match="on the other node"):
        once_per_node(lambda: SAMPLES)
    assert not list(temporary.iterdir())


def test_a_full_disk_is_told(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    monkeypatch.setattr(os, "fdopen", lambda *_: full)
    with pytest.raises(InputError, match=r"The samples need 0 MiB .* TMPDIR"):
        once_per_node(lambda: SAMPLES)
    assert not list(temporary.iterdir())


@pytest.mark.spawn
def test_one_of_two_processes_reads(temporary: Path) -> None:
    environment = {**ENVIRONMENT, "TMPDIR": str(temporary)}
    done = processes.run("tests.harness.read_once", processes=2, environment=environment)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told == [{"reads": 1, "right": True}, {"reads": 0, "right": True}]
    assert not list(temporary.iterdir())
