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


@pytest.mark.parametrize("line", ["{", '{"top": [1]}', "[]", '{"id": 3, "feature": {"array": [0, "<f4", [9]]}}'])
def test_files_of_another_form_are_told_by_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(json.dumps({"id": 1}) + "\n" + line + "\n")
    with pytest.raises(InputError, match="line 2 is not a record"):
        read(path)


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
