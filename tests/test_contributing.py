"""The example of CONTRIBUTING.md is a whole task that works."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import tasks
from harness.cli import main
from tests.conftest import REPOSITORY


@pytest.fixture
def example(tmp_path: Path) -> Path:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    code = re.search(r"<!-- example: flowers.py -->\n```python\n(.*?)```", text, re.S)[1]
    path = tmp_path / "flowers.py"
    path.write_text(code)
    return path


def test_the_example_is_short(example: Path) -> None:
    assert len(example.read_text().splitlines()) < 60


def test_the_example_checks_and_scores_a_data_folder(
    example: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(colours, tmp_path / "data" / "flowers")
    assert main(["check", str(example), "--data", str(tmp_path / "data")]) == 0
    adapter = tasks.get(str(example))
    samples = adapter.samples(tmp_path / "data" / "flowers", "val")
    top = {sample.id: sample.annotation["label"] for sample in samples}
    wrong = next(name for name, label in top.items() if label == 0)
    top[wrong] = 1
    records = [{"id": name, "top": [label]} for name, label in top.items()]
    predictions = tmp_path / "val.jsonl"
    predictions.write_text("".join(json.dumps(record) + "\n" for record in records))
    capsys.readouterr()
    call = ["score", str(example), str(predictions), "--data", str(tmp_path / "data"), "--split", "val", "--json"]
    assert main(call) == 0
    rows = {row["metric"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["top1"]["value"] == pytest.approx(100 * 12 / 13)
    sizes = [sum(sample.annotation["label"] == label for sample in samples) for label in range(3)]
    assert rows["class_mean"]["value"] == pytest.approx(100 * ((sizes[0] - 1) / sizes[0] + 2) / 3)
    assert rows["class_mean"]["low"] < rows["class_mean"]["value"] <= rows["class_mean"]["high"]
    assert rows["top1"]["task"] == "flowers" and rows["top1"]["dataset"] == "Our flowers"
