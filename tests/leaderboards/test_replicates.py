from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backbones.errors import InputError
from leaderboards.replicates import Replicates, difference, read, write

RNG = np.random.default_rng(0)
TOP1 = Replicates(
    task="imagenet", split="val", metric="top1", metric_version=1, unit="percent", value=80.0, data_sha256="da",
    draws_sha256="dr", predictions_sha256="p", run_id="one", replicates=RNG.normal(80, 1, 1000),
)  # fmt: skip
TOP5 = replace(TOP1, metric="top5", value=95.0, replicates=RNG.normal(95, 1, 1000))


def test_a_file_gives_back_every_field_and_digit(tmp_path: Path) -> None:
    path = tmp_path / "new" / "replicates.npz"
    write(path, [TOP1, TOP5])
    for found, expected in zip(read(path), (TOP1, TOP5), strict=True):
        assert np.array_equal(found.replicates, expected.replicates)
        assert replace(found, replicates=None).__dict__ == replace(expected, replicates=None).__dict__
    assert list(path.parent.iterdir()) == [path]


def test_a_run_minus_its_copy_is_zero(tmp_path: Path) -> None:
    for name in ("one", "copy"):
        write(tmp_path / name, [TOP1])
    assert (difference(read(tmp_path / "one")[0], read(tmp_path / "copy")[0]) == 0).all()


def test_differences_are_made_draw_by_draw() -> None:
    better = replace(TOP1, value=81.0, run_id="two", predictions_sha256="q", replicates=TOP1.replicates + 1)
    assert difference(better, TOP1) == pytest.approx(np.ones(1000))


@pytest.mark.parametrize(
    "change",
    [{"data_sha256": "x"}, {"draws_sha256": "x"}, {"metric": "top5"}, {"metric_version": 2},
     {"replicates": TOP1.replicates[:10]}],
)  # fmt: skip
def test_other_draws_are_not_subtracted(change: dict) -> None:
    name = next(iter(change)).replace("replicates", "draws")
    with pytest.raises(InputError, match=f"they differ in {name}"):
        difference(replace(TOP1, **change), TOP1)


def test_forty_metrics_take_less_than_two_megabytes(tmp_path: Path) -> None:
    write(tmp_path / "replicates.npz", [replace(TOP1, replicates=RNG.normal(80, 1, 1000)) for _ in range(40)])
    assert (tmp_path / "replicates.npz").stat().st_size < 2e6


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_another_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "replicates.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="has no bootstrap replicates"):
        read(path)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "replicates.npz"
    np.savez(path, about=np.array([{}], dtype=object), replicates=np.zeros((1, 10)))
    with pytest.raises(InputError, match="has no bootstrap replicates"):
        read(path)


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "file" / "replicates.npz", [TOP1])
