"""Files for test servers, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tasks
from harness.cli import main
from tests.support.questions import colour_questions
from tests.tasks.reasoning.files import statements


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


def test_predictions_of_test_std_serve_for_test_dev(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """test-dev's questions are among test-std's: one prediction gives both files, and no other ids are let through."""
    root = colour_questions(tmp_path / "coco")
    adapter = tasks.get("vqav2")
    dev, std = ({s.id for s in adapter.samples(root, split)} for split in ("test-dev", "test-std"))
    assert dev < std
    answers = dict(zip(sorted(std), ["red", "yes", "blue"] * 5, strict=True))
    mine = tmp_path / "test-std.jsonl"
    mine.write_text("".join(json.dumps({"id": name, "answer": answer}) + "\n" for name, answer in answers.items()))
    call = ["submit", "vqav2", str(mine), "--data", str(root), "--split"]
    assert main([*call, "test-dev"]) == main([*call, "test-std"]) == 0
    for part, ids in (("test-dev2015", dev), ("test2015", std)):
        rows = json.loads((tmp_path / f"vqa_OpenEnded_mscoco_{part}_multiway_results.json").read_text())
        assert {str(row["question_id"]): row["answer"] for row in rows} == {name: answers[name] for name in ids}
    lines = mine.read_text().splitlines()
    missing = next(number for number, line in enumerate(lines) if json.loads(line)["id"] in std - dev)
    for changed, told in (
        (lines[:missing] + lines[missing + 1 :], "1 missing"),
        ([*lines, '{"id": "123", "answer": "yes"}'], "1 unknown: 123"),
    ):
        mine.write_text("\n".join(changed) + "\n")
        capsys.readouterr()
        assert main([*call, "test-dev"]) == 1
        assert told in capsys.readouterr().err


def test_a_task_without_a_server_says_so(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    records = [{"id": s.id, "top": [0]} for s in tasks.get("imagenet").samples(colours, "val")]
    mine = tmp_path / "val.jsonl"
    mine.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["submit", "imagenet", str(mine), "--data", str(colours), "--split", "val"]) == 2
    assert "imagenet has no test server" in capsys.readouterr().err
