"""Files for test servers, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tasks
from harness.cli import main
from tests.tasks.test_nlvr2 import statements


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return statements(tmp_path / "nlvr2", "test-P", sets=2)


def predictions(folder: Path, path: Path, **change: dict) -> Path:
    records = [{"id": s.id, "label": 1} for s in tasks.get("nlvr2").samples(folder, "test-P")]
    records = [record | change.get(record["id"].replace("-", "_"), {}) for record in records]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_writes_the_servers_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mine = predictions(folder, tmp_path / "test-P.jsonl")
    call = ["submit", "nlvr2", str(mine), "--data", str(folder), "--split", "test-P", "--name", "ours", "--json"]
    assert main(call) == 0
    target = tmp_path / "nlvr2_test-P_ours.csv"
    assert json.loads(capsys.readouterr().out) == {"submissions": [str(target)]}
    assert target.read_text().splitlines()[0] == "test1-0-0-0,True"
    assert main([*call[:-1], "--out", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "nlvr2_test-P_ours.csv").read_bytes() == target.read_bytes()


def test_leaves_no_file_when_the_predictions_do_not_fit(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mine = predictions(folder, tmp_path / "test-P.jsonl", test1_1_0_1={"label": 2})
    call = ["submit", "nlvr2", str(mine), "--data", str(folder), "--split", "test-P"]
    assert main(call) == 1
    assert "prediction of test1-1-0-1 has no label 0 or 1" in capsys.readouterr().err
    mine.write_text("\n".join(mine.read_text().splitlines()[1:]) + "\n")
    assert main(call) == 1
    assert "1 missing: test1-0-0-0" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.csv"))


def test_a_task_without_a_server_says_so(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    records = [{"id": s.id, "top": [0]} for s in tasks.get("imagenet").samples(colours, "val")]
    mine = tmp_path / "val.jsonl"
    mine.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["submit", "imagenet", str(mine), "--data", str(colours), "--split", "val"]) == 2
    assert "imagenet has no test server" in capsys.readouterr().err
