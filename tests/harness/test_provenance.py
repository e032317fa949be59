from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from harness import stored_origin
from harness.predictions import PredictionWriter
from harness.provenance import predictions_sha256


def write(folder: Path, value: float) -> Path:
    writer = PredictionWriter(folder, rank=0)
    writer.append([{"id": "one", "feature": np.full(3, value, np.float32)}])
    writer.close()
    return folder / "0-0.jsonl"


def test_a_plain_file_has_its_own_hash(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(b"a,True\n")
    assert predictions_sha256(tmp_path / "mine.csv") == hashlib.sha256(b"a,True\n").hexdigest()


def test_arrays_belong_to_their_records(tmp_path: Path) -> None:
    """Records of other features say the same: where their arrays are."""
    one, same, other = write(tmp_path / "one", 1), write(tmp_path / "same", 1), write(tmp_path / "other", 2)
    assert one.read_bytes() == other.read_bytes()
    assert predictions_sha256(one) == predictions_sha256(same) != predictions_sha256(other)
    renamed = one.rename(one.with_name("val.jsonl"))
    one.with_suffix(".arrays").rename(renamed.with_suffix(".arrays"))
    assert predictions_sha256(renamed) == predictions_sha256(same)


def test_a_folder_is_hashed_by_names_and_contents(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    (maps / "more").mkdir(parents=True)
    contents = {"b.png": b"2", "more/c.png": b"3", "a.png": b"1"}
    for name, content in contents.items():
        (maps / name).write_bytes(content)
    first = predictions_sha256(maps)
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(contents.items())]
    assert first == hashlib.sha256("".join(lines).encode()).hexdigest()  # of what sha256sum would print
    (maps / "a.png").rename(maps / "d.png")
    renamed = predictions_sha256(maps)
    (maps / "d.png").write_bytes(b"4")
    assert len({first, renamed, predictions_sha256(maps)}) == 3


def test_a_folder_beside_a_file_of_ours_is_not_of_its_origin(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val.jsonl").touch()
    (tmp_path / "val.json").write_text('{"backbone": "multiway_nano"}')
    assert stored_origin.read(tmp_path / "val.jsonl") == {"backbone": "multiway_nano"}
    assert stored_origin.read(tmp_path / "val") == {}
