from __future__ import annotations

import csv
import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from leaderboards.rows import COLUMNS, ResultRow, ResultsError, read, write

ROW = ResultRow(
    task="imagenet",
    dataset="ImageNet-1K, 2012",
    split="val",
    metric="top1",
    unit="percent",
    value=85.4,
    low=85.1,
    high=85.7,
    n=50_000,
    data_sha256="d" * 64,
    metric_version=1,
    predictions_sha256="p" * 64,
    package_version="0.1.0",
    package_commit="",
    libraries="torch=2.11.0",
    started="2026-01-01T00:00:00+00:00",
    run_id="first",
)


def of_run(name: str, **changes: object) -> ResultRow:
    return dataclasses.replace(ROW, run_id=name, **changes)


def test_rows_come_back_typed_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    rows = [ROW, of_run("second", parameters=5, train_seconds=1.5, recipe_altered="lr epochs")]
    write(path, rows[:1])
    write(path, rows[1:])
    assert read(path) == rows
    assert next(csv.reader(path.open())) == list(COLUMNS)


def test_pandas_reads_the_file(tmp_path: Path) -> None:
    write(tmp_path / "results.csv", [ROW])
    frame = pd.read_csv(tmp_path / "results.csv")
    assert (frame.value[0], frame.n[0], frame.dataset[0]) == (85.4, 50_000, "ImageNet-1K, 2012")


def test_a_run_scored_again_replaces_its_rows_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW, of_run("second")])
    write(path, [of_run("first", value=86.0)])
    assert [(row.run_id, row.value) for row in read(path)] == [("second", 85.4), ("first", 86.0)]


def test_every_column_is_documented() -> None:
    assert all(column.metadata["doc"] for column in dataclasses.fields(ResultRow))


def test_a_foreign_file_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("model,top1\nvit,80\n")
    with pytest.raises(ResultsError, match="does not have the columns"):
        write(path, [ROW])
    assert path.read_text() == "model,top1\nvit,80\n"


def test_a_damaged_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW])
    path.write_text(path.read_text().replace("85.4", "high"))
    with pytest.raises(ResultsError, match="column value holds 'high'"):
        read(path)


def test_many_writers_at_once_lose_no_row(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    code = """
        import sys
        from pathlib import Path
        from tests.leaderboards.test_rows import of_run
        from leaderboards.rows import write
        for number in range(15):
            write(Path(sys.argv[1]), [of_run(f"{sys.argv[2]}-{number}")])
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    writers = [subprocess.Popen([*command, str(number)], cwd=Path(__file__).parents[2]) for number in range(4)]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    assert {row.run_id for row in read(path)} == {f"{w}-{n}" for w in range(4) for n in range(15)}


def test_a_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW])
    before = path.read_bytes()
    code = """
        import resource, sys
        from pathlib import Path
        from tests.leaderboards.test_rows import of_run
        from leaderboards.rows import ResultsError, write
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
        try:
            write(Path(sys.argv[1]), [of_run(str(number)) for number in range(50)])
        except ResultsError as error:
            print(error)
            sys.exit(error.exit_code)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "nothing that was in the file is lost" in done.stdout
    assert path.read_bytes() == before
    assert not path.with_name("results.csv.partial").exists()
