from __future__ import annotations

import csv
import dataclasses
import errno
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from leaderboards.rows import COLUMNS, SCHEMA, ResultRow, ResultsError, read, require_readable, write
from tests.support.rows import ROW, of_run


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


def test_an_unknown_file_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("model,top1\nvit,80\n")
    with pytest.raises(ResultsError, match="is not a results file"):
        write(path, [ROW])
    assert path.read_text() == "model,top1\nvit,80\n"
    assert not list(tmp_path.glob("*schema*"))


# The columns of the first version, and a row of it.
OLD = {
    "task": "imagenet", "dataset": "ImageNet-1K, 2012", "split": "val", "metric": "top1", "unit": "percent",
    "value": "85.4", "low": "85.1", "high": "85.70", "n": "50000", "backbone": "beit3_base_patch16_224",
    "weights": "beit3.pth", "weights_sha256": "w", "parameters": "87", "resolution": "224", "tokenizer_sha256": "",
    "recipe": "base", "recipe_altered": "lr", "recipe_sha256": "r", "seed": "3", "data_sha256": "d",
    "metric_version": "1", "predictions_sha256": "p", "package_version": "0.1.0", "package_commit": "",
    "libraries": "torch=2.11.0", "device": "CPU", "precision": "bf16", "processes": "1", "train_seconds": "5.5",
    "predict_seconds": "1.5", "samples_per_second": "8.0", "peak_memory": "99", "started": "2026", "run_id": "old",
    "note": "",
}  # fmt: skip


def write_cells(path: Path, cells: dict[str, str]) -> bytes:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(cells))
        writer.writeheader()
        writer.writerow(cells)
    return path.read_bytes()


def test_a_file_of_the_first_version_is_read(tmp_path: Path) -> None:
    write_cells(tmp_path / "results.csv", OLD)
    (row,) = read(tmp_path / "results.csv")
    assert (row.value, row.n, row.seed, row.weights, row.train_seconds) == (85.4, 50_000, 3, "beit3.pth", 5.5)
    assert (row.schema, row.finetuned_sha256, row.train_processes, row.bootstrap_draws) == (1, "", None, None)


def test_a_new_row_in_an_old_file_leaves_the_old_row_and_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    before = write_cells(path, OLD)
    write(path, [ROW])
    assert [(row.run_id, row.schema) for row in read(path)] == [("old", 1), ("first", SCHEMA)]
    assert next(csv.reader(path.open())) == list(COLUMNS)
    first = next(csv.DictReader(path.open()))
    assert {name: first[name] for name in OLD} == OLD  # to the letter: 85.70 too
    assert (tmp_path / "results.schema-1.csv").read_bytes() == before
    write(path, [of_run("second")])  # the columns are today's now
    assert len(list(tmp_path.glob("*schema*"))) == 1


def test_a_copy_never_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    for run in ("one", "two"):
        write_cells(path, OLD | {"run_id": run})
        write(path, [ROW])
    copies = [read(tmp_path / name)[0].run_id for name in ("results.schema-1.csv", "results.schema-1.2.csv")]
    assert copies == ["one", "two"]


def test_columns_of_a_newer_version_stay(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW, of_run("second")])
    with path.open(newline="") as file:
        rows = [row | {"energy": "7 J", "schema": "99"} for row in csv.DictReader(file)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["energy", *COLUMNS])
        writer.writeheader()
        writer.writerows(rows)
    assert [row.schema for row in read(path)] == [99, 99]
    write(path, [of_run("first", value=86.0)])
    found = list(csv.DictReader(path.open()))
    assert [(row["run_id"], row["energy"], row["schema"]) for row in found] == [
        ("second", "7 J", "99"),
        ("first", "", str(SCHEMA)),
    ]
    assert next(iter(found[0])) == "energy"  # nor has their order changed
    assert not list(tmp_path.glob("*schema*"))


def test_a_newer_file_without_one_of_our_columns_is_copied_before_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    before = write_cells(path, OLD | {"energy": "7 J", "schema": "99"})
    write(path, [ROW])
    assert next(csv.reader(path.open())) == [*COLUMNS, "energy"]
    assert next(csv.DictReader(path.open()))["energy"] == "7 J"
    assert (tmp_path / "results.schema-99.csv").read_bytes() == before


def test_a_row_with_too_many_cells_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW])
    path.write_text(path.read_text().replace('"ImageNet-1K, 2012"', "ImageNet-1K, 2012"))
    before = path.read_bytes()
    with pytest.raises(ResultsError, match="row 1 has more cells"):
        write(path, [of_run("second")])
    assert path.read_bytes() == before


def test_every_column_that_a_file_needs_was_in_the_first_version() -> None:
    """A column without a default would make every older file unreadable."""
    needed = {column.name for column in dataclasses.fields(ResultRow) if column.default is dataclasses.MISSING}
    assert needed <= set(OLD)


def test_reading_rows_imports_nothing_heavy() -> None:
    code = (
        "import sys, leaderboards.rows; assert not {'numpy', 'pandas', 'torch', 'tasks', 'harness'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_a_damaged_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW])
    path.write_text(path.read_text().replace("85.4", "high"))
    with pytest.raises(ResultsError, match="column value holds 'high'"):
        read(path)


@pytest.mark.spawn
def test_many_writers_at_once_lose_no_row(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    code = """
        import sys
        from pathlib import Path
        from tests.support.rows import of_run
        from leaderboards.rows import write
        for number in range(15):
            write(Path(sys.argv[1]), [of_run(f"{sys.argv[2]}-{number}")])
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    writers = [subprocess.Popen([*command, str(number)], cwd=Path(__file__).parents[2]) for number in range(4)]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    assert {row.run_id for row in read(path)} == {f"{w}-{n}" for w in range(4) for n in range(15)}


@pytest.mark.spawn
def test_a_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW])
    before = path.read_bytes()
    code = """
        import resource, sys
        from pathlib import Path
        from tests.support.rows import of_run
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


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content.replace(b"ImageNet-1K, 2012", b"Imag\xe9Net"), "UTF-8"),
        (lambda content: content.replace(b"85.4,", b""), "row 1 has fewer cells"),
        (lambda content: content + b"<<<<<<< HEAD\r\n", "row 2 has fewer cells"),
        (lambda content: content.replace(b"85.4", b'"' + b"5" * 200_000), "field larger"),
        (lambda content: content.replace(b"top1", b"top1\0"), "NUL"),
        (lambda content: content + b"\0" * 99, "NUL"),
        (lambda content: content.replace(b"task,dataset", b"task,task", 1), "no column dataset"),
        (lambda content: content.replace(b"value,low", b"value,value,low", 1), "a column twice"),
    ],
)
def test_a_file_that_was_damaged_by_hand_is_named_and_unchanged(
    damage: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW])
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    for use in (require_readable, read):
        with pytest.raises(ResultsError, match=rf"results\.csv.*{message}"):
            use(path)
    assert path.read_bytes() == damaged


def test_a_row_that_was_cut_off_by_a_power_cut_is_no_row_and_loses_none(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW, of_run("second")])
    whole = path.read_bytes()
    write(path, [of_run("third", note="a, b")])
    added = len(path.read_bytes()) - len(whole)
    for kept in (1, added // 2, added - 10):
        path.write_bytes(path.read_bytes()[: len(whole) + kept])
        assert [row.run_id for row in read(path)] == ["first", "second"]
        write(path, [of_run("third", note="a, b")])
        assert [row.run_id for row in read(path)] == ["first", "second", "third"]
    path.write_bytes(path.read_bytes().rstrip())  # an editor that leaves the last line end out loses nothing
    write(path, [of_run("fourth")])
    assert [row.run_id for row in read(path)] == ["first", "second", "third", "fourth"]


@pytest.mark.parametrize(
    "changes",
    [{"value": "high"}, {"value": float("nan")}, {"n": None}, {"n": 1.5}, {"seed": True}, {"note": "x" * 200_000},
     {"backbone": None}, {"weights": "\udcff"}, {"low": float("inf")}],
)  # fmt: skip
def test_a_row_that_no_file_can_hold_is_not_written(changes: dict, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW])
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=f"column {next(iter(changes))} would hold"):
        write(path, [of_run("second", **changes)])
    assert path.read_bytes() == before


def test_a_row_is_added_to_a_large_file_in_a_tenth_of_a_second(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    text = dict.fromkeys(("libraries", "train_libraries", "predict_libraries"), "torch=2.11.0 " * 12)
    write(path, [of_run("other", **text)])
    header, line = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + b"".join(line.replace(b",other,", b",%012x," % number) for number in range(50_000)))
    began = time.process_time()
    write(path, [of_run("new", metric=name, **text) for name in ("top1", "top5")])
    assert time.process_time() - began < 0.1
    with path.open("rb") as file:
        file.seek(-3000, 2)
        assert file.read().count(b",new,") == 2


@pytest.mark.parametrize("fault", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_a_single_writer_works_and_is_told(
    fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(fault, "no locks")

    monkeypatch.setattr("backbones.files.fcntl.flock", refuse)
    for name in ("one", "two"):
        write(tmp_path / "results.csv", [of_run(name)])
    assert len(read(tmp_path / "results.csv")) == 2
    assert capsys.readouterr().err.count("has no locks, so only one process") == 1
