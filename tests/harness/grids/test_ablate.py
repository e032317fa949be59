"""`harness ablate`: a whole grid with pretraining, a failed cell, killed and continued."""

from __future__ import annotations

import csv
import json
import random
import time
from pathlib import Path

import pytest

from harness.cli import main
from harness.grids import store
from leaderboards import results, rows
from tasks.pretraining import toy_data
from tests.harness.grids.test_planning import GRID, written
from tests.harness.test_cli import told
from tests.support import processes

pytestmark = [pytest.mark.training, pytest.mark.spawn]

SMALL = "steps = 2, batch_size = 4, micro_batch = 4, warmup_steps = 0"
PRETRAINED = f"""
[pretraining]
recipe = "nano_masked"
weights = "none"
set = {{ {SMALL}, image_size = 32, image_target = "pixels" }}
"""
BROKEN = """
[[rows]]
name = "broken"
finetuning = { batch_size = 1000, micro_batch = 1000 }
"""


@pytest.fixture(scope="module")
def pretraining_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_data.write(tmp_path_factory.mktemp("pretraining") / "toy", scale=0.001)


def call(folder: Path, data: Path, *extra: str, out: str = "out") -> list[str]:
    return ["ablate", str(folder / "grid.toml"), "--data", str(data), "--out", str(folder / out), *extra]


def table(text: str) -> dict[str, dict]:
    return {entry["row"]: entry for entry in json.loads(text)["rows"]}


def test_a_grid_runs_its_failed_cell_stops_no_other_and_is_retried(
    colours: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    written(tmp_path, GRID + BROKEN)
    assert main(call(tmp_path, colours, "--dry-run", "--json")) == 0
    plan = json.loads(capfd.readouterr().out)
    assert (plan["to_run"], plan["not_measured"]) == (6, 6)
    assert {entry["difference"] for entry in plan["jobs"] if entry["row"] == "fast"} == {"lr=0.1"}
    assert not (tmp_path / "out" / "grid").exists()

    assert main(call(tmp_path, colours, "--json")) == 1
    answer = capfd.readouterr()
    found = table(answer.out)
    assert json.loads(answer.out)["error"] == "Not done: 2 of 6 cells"
    assert found["plain"]["seeds"] == found["fast"]["seeds"] == [0, 1]
    apart = [one - other for one, other in zip(found["fast"]["values"], found["plain"]["values"], strict=True)]
    assert found["fast"]["points"] == pytest.approx(apart)
    assert found["fast"]["over_samples"] and len(found["fast"]["over_seeds"]) == 2
    assert set(found["broken"]["failed"]) == {"0", "1"} and "1000" in found["broken"]["failed"]["0"]
    assert "Not done: 'broken'" in answer.err and "log.txt" in answer.err

    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("done.json")}
    assert len(stamps) == 4
    assert main(call(tmp_path, colours, "--dry-run", "--json")) == 0
    again = json.loads(capfd.readouterr().out)
    assert again["to_run"] == 0
    assert {entry["state"] for entry in again["jobs"] if entry["row"] == "broken"} == {"failed"}
    assert main(call(tmp_path, colours, "--dry-run", "--json", "--retry-failed")) == 0
    assert json.loads(capfd.readouterr().out)["to_run"] == 2
    assert main(call(tmp_path, colours, "--format", "csv")) == 1
    lines = list(csv.DictReader(capfd.readouterr().out.splitlines()))
    assert [line["row"] for line in lines] == ["plain", "fast", "broken"]
    assert lines[2]["not done"].startswith("seeds 0, 1: ")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("done.json")} == stamps

    folder = tmp_path / "out" / "grid"
    assert set(results.gather([folder]).frame["variant"]) == {"plain", "fast"}
    assert main(["results", str(folder), "--columns", "grid,variant,seed,value", "--json"]) == 0
    assert {row["grid"] for row in json.loads(capfd.readouterr().out)} == {"grid"}
    assert main(["table", "imagenet", "--results", str(folder)]) == 0
    assert "grid: fast" in capfd.readouterr().out
    assert main(["report", str(tmp_path / "report.html"), "--results", str(folder)]) == 0
    assert "grid: fast" in (tmp_path / "report.html").read_text()


def values(folder: Path) -> dict[tuple[str, int | None], float | None]:
    return {
        (row.variant, row.seed): row.value
        for path in folder.rglob(store.ROWS)
        for row in rows.read(path)
        if row.metric == "top1"
    }


@pytest.mark.slow
def test_a_grid_killed_at_random_moments_gives_the_same_numbers(
    colours: Path, tmp_path: Path, pretraining_data: Path, capsys: pytest.CaptureFixture
) -> None:
    written(
        tmp_path,
        GRID.replace("finetuning = { lr = 0.1 }", 'pretraining = { text_reconstruction = "none" }') + PRETRAINED,
    )
    options = ("--pretraining-data", str(pretraining_data), "--seeds", "0")
    assert main(call(tmp_path, colours, *options, "--json", out="whole")) == 0
    whole = table(capsys.readouterr().out)
    stages = list((tmp_path / "whole" / "pretraining").glob(f"*/{store.DONE}"))
    assert len(stages) == 2

    moments = random.Random(0)
    folder, started = tmp_path / "killed", 0
    for _ in range(4):
        before = set(folder.rglob(store.DONE))
        running = processes.Started("harness", *call(tmp_path, colours, *options, out="killed"))
        deadline = time.monotonic() + 120
        while running.poll() is None and time.monotonic() < deadline and not list(folder.rglob(store.LOG)):
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 8))
        started += running.poll() is None
        running.kill()
        assert before <= set(folder.rglob(store.DONE)), "something finished was lost"
    assert started, "no call was killed while it ran"
    assert main(call(tmp_path, colours, *options, "--json", out="killed")) == 0
    killed = table(capsys.readouterr().out)
    for name in ("plain", "fast"):
        assert killed[name]["values"] == whole[name]["values"]
    assert values(folder) == values(tmp_path / "whole")


def test_a_wrong_grid_ends_with_status_2_and_one_paragraph(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    written(tmp_path, GRID.replace("lr = 0.1", "lrr = 0.1"))
    assert main(call(tmp_path, colours)) == 2
    assert "Unknown recipe field 'lrr'" in told(capsys)
    assert main(call(tmp_path, colours, "--seeds", "0,0")) == 2
    assert "has 0 twice" in told(capsys)
    assert main(["ablate", "ablation_a"]) == 2
    assert "ablation_a_transformer" in told(capsys)


def test_the_grids_are_listed(capsys: pytest.CaptureFixture) -> None:
    assert main(["list", "grids", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found["ablation_d_image_target"]["rows"] == [
        "k-means of a teacher's features", "pixels, normalized", "VQ-KD",
    ]  # fmt: skip
