from __future__ import annotations

import json
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from backbones import InputError
from harness.predictions import PredictionWriter, done, exactly_once, merge, read

IDS = [f"s{number}" for number in range(7)]


def write(folder: Path, ids: list[str], *, rank: int = 0) -> None:
    writer = PredictionWriter(folder, rank=rank)
    for sample in ids:
        number = int(sample[1:])
        # A feature vector, a label map and a box array of no boxes: what other tasks keep beside their records.
        writer.append(
            [
                {
                    "id": sample,
                    "text": f"naïve {number}",
                    "feature": np.full(3, number, np.float32),
                    "map": np.full((2, number + 1), number, np.uint8),
                    "boxes": np.empty((0, 4), np.float32),
                }
            ]
        )
    writer.close()


def test_parts_of_several_processes_and_starts_become_one_ordered_file(tmp_path: Path) -> None:
    parts, target = tmp_path / "val", tmp_path / "val.jsonl"
    write(parts, ["s4", "s1"])
    write(parts, ["s0", "s6"], rank=1)
    write(parts, ["s2", "s5", "s3"])  # after a restart
    assert done(parts) == set(IDS)
    merge(parts, target, IDS)
    records = read(target)
    assert [record["id"] for record in records] == IDS
    for number, record in enumerate(records):
        assert record["text"] == f"naïve {number}"
        assert record["feature"].dtype == np.float32
        assert record["feature"].tolist() == [number] * 3
        assert record["map"].shape == (2, number + 1)
        assert (record["map"] == number).all()
        assert record["boxes"].shape == (0, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val.arrays", "val.jsonl"]


def test_the_merged_file_does_not_depend_on_who_wrote_what(tmp_path: Path) -> None:
    for name, shares in (("a", [IDS]), ("b", [IDS[::2], IDS[1::2]])):
        for rank, ids in enumerate(shares):
            write(tmp_path / name / "val", ids, rank=rank)
        merge(tmp_path / name / "val", tmp_path / name / "val.jsonl", IDS)
    for file in ("val.jsonl", "val.arrays"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_line_that_a_killed_process_left_unfinished_does_not_count(tmp_path: Path) -> None:
    write(tmp_path / "val", ["s0", "s1"])
    with (tmp_path / "val" / "0-0.jsonl").open("a") as file:
        file.write('{"id": "s2", "te')
    assert done(tmp_path / "val") == {"s0", "s1"}
    write(tmp_path / "val", ["s2"])
    merge(tmp_path / "val", tmp_path / "val.jsonl", ["s0", "s1", "s2"])
    assert len(read(tmp_path / "val.jsonl")) == 3


def test_an_incomplete_split_is_not_merged_and_not_lost(tmp_path: Path) -> None:
    write(tmp_path / "val", ["s0", "s2"])
    with pytest.raises(InputError, match="1 missing: s1"):
        merge(tmp_path / "val", tmp_path / "val.jsonl", ["s0", "s1", "s2"])
    assert done(tmp_path / "val") == {"s0", "s2"}
    assert not (tmp_path / "val.jsonl").exists()


def test_exactly_once_names_missing_duplicate_and_unknown() -> None:
    exactly_once(["b", "a"], ["a", "b"], where=Path("p"))
    with pytest.raises(InputError) as caught:
        exactly_once(["a", "a", "x"], ["a", "b"], where=Path("p"))
    text = str(caught.value)
    assert "1 missing: b" in text
    assert "1 duplicate: a" in text
    assert "1 unknown: x" in text


DAMAGED = (
    b"{", b'{"top": [1]}', b"[]", b"null", b'{"id": 3, "feature": {"array": [0, "<f4", [9]]}}', b'{"id": null}',
    b'{"id": true}', b'{"id": "a", "score": NaN}', b'{"id": "a", "score": -Infinity}', b'{"id": "a", "id": "b"}',
    b'{"id": "a", "top": [1], "top": [2]}', b'{"id": "\xff"}', b'{"id": "a", "x": ' + b"[" * 100_000,
    b'{"id": "a", "x": ' + b"1" * 5000 + b"}",
)  # fmt: skip


@pytest.mark.parametrize("line", DAMAGED)
def test_files_of_another_form_are_told_by_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(b'{"id": 1}\n' + line + b"\n")
    with pytest.raises(InputError, match=r"predictions\.jsonl, line 2 is not a record"):
        read(path)
    parts = tmp_path / "val"
    parts.mkdir()
    (parts / "0-0.jsonl").write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"0-0\.jsonl.*Remove the folder that it is in"):
        done(parts)
        merge(parts, tmp_path / "val.jsonl", ["1", "3"])
    assert parts.is_dir()


@pytest.mark.parametrize(
    "place",
    [
        [-12, "<f4", [3]], [0, "<f4", [-3]], [0, "<f4", [1000]], [0.0, "<f4", [3]], [True, "<f4", [2]], [0, "|O", [1]],
        [0, "<f4", 3], [0, "<M8[s]", [1]], [0, "<f4,<f4", [1]], [0, "<f4"], [0, 4, [3]], [0, "<f4", [1 << 70]],
        [8, "<f4", [3]],
    ],
)  # fmt: skip
def test_arrays_outside_their_file_of_other_types_or_overlapping_are_refused(tmp_path: Path, place: list) -> None:
    write(tmp_path / "val", ["s1"])
    merge(tmp_path / "val", tmp_path / "val.jsonl", ["s1"])
    path = tmp_path / "val.jsonl"
    record = json.loads(path.read_text())
    assert record["feature"] == {"array": [0, "<f4", [3]]}  # and the map follows it at byte 12
    record["feature"]["array"] = place
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(InputError, match=r"val\.jsonl"):
        read(path)


def test_numbers_that_are_not_finite_are_neither_written_nor_read(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path / "val", rank=0)
    for value in (float("nan"), [1.0, float("inf")], np.array([1, np.nan], np.float32)):
        with pytest.raises(InputError, match="prediction of s1 has a number that is not finite"):
            writer.append([{"id": "s1", "score": value}])
    with pytest.raises(InputError, match=r"sample 's\\udcff' is no UTF-8"):
        writer.append([{"id": "s\udcff"}])
    writer.append([{"id": "s1", "feature": np.ones(2, np.float32)}])
    writer.close()
    assert done(tmp_path / "val") == {"s1"}
    merge(tmp_path / "val", tmp_path / "val.jsonl", ["s1"])
    assert read(tmp_path / "val.jsonl")[0]["feature"].tolist() == [1, 1]
    content = (tmp_path / "val.arrays").read_bytes()
    (tmp_path / "val.arrays").write_bytes(np.array([1, np.inf], np.float32).tobytes())
    assert len(content) == 8
    with pytest.raises(InputError, match="not finite"):
        read(tmp_path / "val.jsonl")


def test_numbers_as_ids_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"id": 42}\n')
    assert read(path) == [{"id": "42"}]


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the file size stands for the disk: the write that passes it fails as on a full one."""
    code = f"""
        import resource, sys
        from pathlib import Path
        from backbones import InputError
        from harness.predictions import PredictionWriter

        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        writer = PredictionWriter(Path({str(tmp_path / "val")!r}), rank=0)
        try:
            for number in range(1000):
                writer.append([{{"id": f"s{{number}}", "text": "x" * 50}}])
        except InputError as error:
            print(number, error)
            writer.close()
            sys.exit(error.exit_code)
    """
    done_ = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done_.returncode == 1, done_.stderr
    written = int(done_.stdout.split()[0])
    assert "cannot be written" in done_.stdout
    assert "Free some space and run the same command again" in done_.stdout
    assert done(tmp_path / "val") == {f"s{number}" for number in range(written)}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096
