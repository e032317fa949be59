from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tasks
from harness.cli import main
from tests.conftest import REPOSITORY
from tests.harness.test_cli import told
from tests.support import published

HEAVY = ("torch", "mmengine", "mmseg", "torchvision")


def heavy_imports(*calls: list[str], status: int) -> list[str]:
    """Heavy packages that a fresh process has imported after some commands, each with this exit status."""
    script = (
        "import json, sys\n"
        "from harness.cli import main\n"
        f"for call in json.loads(sys.argv[1]):\n    assert main(call) == {status}, call\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    command = [sys.executable, "-c", script, json.dumps(calls)]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.spawn
def test_absent_predictions_are_refused_before_pytorch_is_imported(tmp_path: Path) -> None:
    calls = [["score", task, str(tmp_path / "absent"), "--data", str(tmp_path)] for task in tasks.names()]
    assert heavy_imports(*calls, status=1) == []


def test_a_typo_is_refused_before_pytorch_is_imported(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path)]
    calls = [["score", "nlvr", "p.csv", *data], ["score", "nlvr2", "p.csv", "--split", "deve", *data]]
    calls += [["submit", "vqav", "p.json", *data, "--split", "test-dev"]]
    assert heavy_imports(*calls, status=2) == []


@pytest.mark.parametrize(
    ("task", "predictions", "split"),
    [
        ("nlvr2", "nlvr2/predictions_dev_pair_majority.csv", "dev"),
        ("vqav2", "vqa/predictions_valid_all_yes.json", "val"),
        ("coco_detection", "coco_det/instances_val2014_fakebbox100_results.json", "val"),
        ("ade20k", "ade20k/predictions", "val"),
    ],
)
def test_real_predictions_are_scored_without_pytorch(
    truth: Path, tmp_path: Path, task: str, predictions: str, split: str
) -> None:
    data = published.folder(task, truth, tmp_path)
    assert (
        heavy_imports(["score", task, str(truth / predictions), "--data", str(data), "--split", split], status=0) == []
    )


@pytest.mark.parametrize("task", tasks.names())
def test_the_error_of_an_absent_file_names_the_forms(task: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["score", task, str(tmp_path / "absent.json"), "--data", str(tmp_path)]) == 1
    message = told(capsys)
    assert f"No predictions at {tmp_path}/absent.json." in message
    assert tasks.get(task).prediction_forms in message


@pytest.mark.parametrize(
    ("task", "name", "content"),
    [
        ("nlvr2", "p.json", '[{"identifier": "dev-0", "label": true}]'),
        ("vqav2", "p.csv", "1,yes\n"),
        ("vqav2", "p.json", '{"1": "yes"}'),
        ("vqav2", "p.json", '[{"question": 1, "answer": "yes"}]'),
        ("vqav2", "p.jsonl", '{"question_id": 1, "answer": "yes"}\n'),
        ("coco_detection", "p.csv", "1,2\n"),
        ("coco_detection", "p.json", '{"boxes": []}'),
        ("ade20k", "p.npz", "x"),
    ],
)
def test_the_error_of_another_form_names_the_right_ones(
    truth: Path, task: str, name: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / name).write_text(content)
    data = published.folder(task, truth, tmp_path / "data")
    assert main(["score", task, str(tmp_path / name), "--data", str(data), *SPLIT.get(task, [])]) != 0
    assert tasks.get(task).prediction_forms in told(capsys)


SPLIT = {"vqav2": ["--split", "val"]}


def test_features_in_another_form_are_refused_with_the_right_one(
    truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image = {"filepath": "val2014", "filename": "1.jpg", "cocoid": 1, "split": "test"}
    images = [{**image, "sentences": [{"raw": "a cat", "sentid": 1}]}]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    (tmp_path / "features.npy").write_bytes(b"")
    assert main(["score", "coco_retrieval", str(tmp_path / "features.npy"), "--data", str(tmp_path)]) != 0
    assert "image_ids [images], image_features [images, dim]" in told(capsys)


def test_the_readme_has_the_forms_of_every_task() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    section = readme.partition("## Predictions from elsewhere")[2].partition("\n## ")[0].replace("`", "")
    for name in tasks.names():
        assert tasks.get(name).prediction_forms.split("; ")[0] in section


def test_the_help_and_the_list_show_the_forms_of_every_task(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    shown = capsys.readouterr().out
    assert main(["list", "tasks", "--json"]) == 0
    listed = {entry["name"]: entry["predictions"] for entry in json.loads(capsys.readouterr().out)}
    assert main(["list", "tasks"]) == 0
    table = capsys.readouterr().out
    for name in tasks.names():
        form = tasks.get(name).prediction_forms
        assert f"{name}: {form}" in shown
        assert listed[name] == form
        assert f"{name}: {form}" in table
