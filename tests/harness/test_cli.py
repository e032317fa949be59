"""The command line: what it says, and with which exit status, when a call or the world is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backbones.packages import install_command
from harness.cli import main
from tasks.classification.recipes import RECIPES
from tests.conftest import FAST, REPOSITORY


def call(data: Path, out: Path, *extra: str, changes: tuple[str, ...] = FAST, task: str = "imagenet") -> list[str]:
    arguments = ["run", task, "--backbone", "multiway_nano", "--data", str(data), "--out", str(out), *extra]
    return [*arguments, *[part for change in changes for part in ("--set", change)]]


def told(capsys: pytest.CaptureFixture) -> str:
    """The paragraph on stderr; checks that it is one, and no traceback."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    last = error.strip().splitlines()[-1]
    assert last.startswith("harness: ")
    return last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "imagnet", "--backbone", "multiway_nano", "--data", "."], "Did you mean imagenet?"),
        (["run", "imagenet", "--backbone", "multiway_nana", "--data", "."], "Did you mean multiway_nano?"),
        (["run", "imagenet", "--backbone", "timm/resnet19", "--data", "."], "resnet18"),
        (["run", "imagenet", "--backbone", "multiway_nano", "--data", ".", "--set", "epoch=3"], "Did you mean epochs"),
        (["run", "imagenet", "--backbone", "multiway_nano", "--data", ".", "--recipe", "nani"], "nano"),
        (["run", "imagenet", "--backbone", "multiway_nano", "--data", ".", "--split", "test"], "Known: train, val"),
        (["run", "imagenet", "--backbone", "multiway_nano", "--data", ".", "--limit", "0"], "from 1"),
        (
            ["run", "flickr30k_zero_shot", "--backbone", "multiway_nano", "--data", ".", "--set", "epochs=1"],
            "flickr30k_zero_shot does not fine-tune with recipe multiway_nano_flickr30k_zero_shot: the given weights "
            "predict as they are. Leave out --set epochs=1",
        ),
    ],
)
def test_wrong_calls_exit_with_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(arguments) == 2
    assert message in told(capsys)


def test_a_list_says_which_task_is_refused(capsys: pytest.CaptureFixture) -> None:
    options = ["--backbone", "multiway_nano", "--data", "."]
    assert main(["run", "imagenet", "coco_captioning", *options, "--set", "beams=3"]) == 2
    text = told(capsys)
    assert "Nothing was started" in text and "1 of 2 tasks" in text
    assert "imagenet: Unknown recipe field 'beams'" in text
    assert main(["run", "imagenet", "nlvr2", "--backbone", "multiway_nana", "--data", "."]) == 2
    assert told(capsys).startswith("harness: Unknown backbone 'multiway_nana'")


@pytest.mark.training
def test_a_batch_that_does_not_fit_is_told_with_one_that_does(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    changes = ("workers=0", "epochs=1", "warmup_epochs=0", "image_size=16")
    wrong = (*changes, "batch_size=10", "micro_batch=4")
    assert main(call(colours, tmp_path, changes=wrong)) == 2
    assert "--set micro_batch=2" in told(capsys)
    assert main(call(colours, tmp_path / "b", changes=(*changes, "batch_size=32", "micro_batch=4"))) == 2
    assert "more than the 24 training samples" in told(capsys)


def test_missing_data_and_weights(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(call(tmp_path / "nowhere", tmp_path)) == 1
    assert f"There is no folder {tmp_path / 'nowhere'}." in told(capsys)
    assert main(call(tmp_path, tmp_path)) == 1
    assert "No train images under" in told(capsys)
    assert main(call(colours, tmp_path, "--weights", str(tmp_path / "none.pth"))) == 1
    assert "No weights file at" in told(capsys)


def test_weights_of_another_architecture(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    assert main(call(colours, tmp_path, "--weights", str(tmp_path / "resnet.pth"))) == 1
    assert "do not fit this model" in told(capsys)


@pytest.mark.training
def test_a_loss_that_is_no_number_stops_the_run(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES["nano"].RANGES, "lr", "(0, 1e30]")
    changes = (*FAST, "lr=1e18", "precision=fp32", "epochs=4", "clip_grad=none", "warmup_epochs=0")
    assert main(call(colours, tmp_path, changes=changes)) == 1
    text = told(capsys)
    assert "The loss is nan" in text or "The loss is inf" in text or "not finite after step" in text
    assert "--set lr=" in text
    assert not (tmp_path / "results.csv").exists()


@pytest.mark.training
def test_a_damaged_checkpoint_of_an_interrupted_run_is_told(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoint = tmp_path / "imagenet" / "multiway_nano-seed0" / "checkpoints" / "last.pth"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"meta": {"iter": 3}, "state_dict": {"weight": torch.zeros(1000)}}, checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-500])
    assert main(call(colours, tmp_path)) == 1
    text = told(capsys)
    assert f"{checkpoint} (checkpoint) cannot be read" in text
    assert "Remove it to start the training again" in text
    assert checkpoint.exists()


def test_an_output_folder_that_cannot_be_written(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    assert main(call(colours, blocker / "out")) == 1
    assert "cannot be written" in told(capsys)


@pytest.mark.training
def test_a_run_folder_is_not_taken_over_by_another_experiment(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "imagenet" / "mine"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"run_id": "x", "started": "", "identity": {"task": "imagenet"}}))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.pth").touch()
    assert main(call(colours, tmp_path, "--name", "mine")) == 1
    text = told(capsys)
    assert "holds a run with another backbone" in text
    assert "--weights" not in text

    final = folder / "checkpoints" / "final.safetensors"
    final.touch()
    assert main(call(colours, tmp_path, "--name", "mine")) == 1
    assert f"`harness predict … --weights {final}` uses what it has fine-tuned" in told(capsys)


def test_a_run_folder_in_use_is_told(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    import fcntl

    folder = tmp_path / "imagenet" / "mine"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(call(colours, tmp_path, "--name", "mine")) == 1
    assert "Another run works in" in told(capsys)


def test_predictions_that_are_not_the_splits(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "val/class0/0000.JPEG", "top": [0]}\n{"id": "val/other.JPEG", "top": [0]}\n')
    assert main(["score", "imagenet", str(path), "--data", str(colours)]) == 1
    text = told(capsys)
    assert "12 missing: val/class0/0003.JPEG" in text
    assert "1 unknown: val/other.JPEG" in text


def test_errors_in_json_too(capsys: pytest.CaptureFixture) -> None:
    assert main(["run", "imagnet", "--backbone", "multiway_nano", "--data", ".", "--json"]) == 2
    assert "Did you mean imagenet?" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["tasks", "backbones", "recipes"])
def test_list_speaks_to_people_and_programs(what: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["list", what]) == 0
    name = {"tasks": "imagenet", "backbones": "beit3_giant_patch14_224", "recipes": "beit3_large_ade20k"}[what]
    assert name in capsys.readouterr().out
    assert main(["list", what, "--json"]) == 0
    assert name in json.dumps(json.loads(capsys.readouterr().out))


def test_list_recipes_tells_values_source_and_deviations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from tasks.reasoning.nlvr2 import NLVR2
    from tasks.reasoning.recipes import RECIPES

    recipe = replace(RECIPES["base"], source="a paper", deviations=("another optimizer", "no [dropout]"))
    monkeypatch.setattr(NLVR2, "recipes", {"base": recipe, "nano": RECIPES["nano"]})
    assert main(["list", "recipes", "nlvr2"]) == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["lr"] == ["0.0007", "0.0005"]
    assert rows["clip_grad"] == ["None", "3"]
    assert "base (beit3_base_nlvr2): a paper\n  - another optimizer\n  - no [dropout]\n" in text
    assert main(["list", "recipes", "nlvr2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["nlvr2"]["base"]
    assert (found["lr"], found["source"], found["deviations"]) == (
        7e-4,
        "a paper",
        ["another optimizer", "no [dropout]"],
    )


def test_list_of_backbones_has_no_task(capsys: pytest.CaptureFixture) -> None:
    assert main(["list", "backbones", "nlvr2"]) == 2
    assert "harness list recipes nlvr2" in told(capsys)


def test_doctor_examines_packages_device_disk_and_data(colours: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor", "--data", str(colours), "--data", "nowhere", "--json"]) == 0
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {"Python", "torch", "mmdet", "mmseg", "pycocoevalcap", "timm", "pandas", "bf16", "Java", "disk"} <= set(
        found
    )
    assert found["device"]["ok"]
    assert "13 val samples" in found["data imagenet"]["detail"]
    assert [name for name in found if name.startswith("data")] == ["data imagenet", f"data {colours}", "data nowhere"]
    rest = found[f"data {colours}"]
    assert rest["ok"] is None
    assert "no vqav2" in rest["detail"] and f"`harness check ade20k --data {colours}`" in rest["detail"]
    assert not found["data nowhere"]["ok"]


def test_doctor_tells_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import doctor

    def broken(name: str) -> None:
        raise ImportError("libfoo.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    finding = doctor._package("torchvision", "images")
    assert not finding.ok
    assert "libfoo.so.1" in finding.detail
    assert finding.detail.endswith(f" {install_command('--force-reinstall', '--no-deps', 'torchvision')}")


@pytest.mark.spawn
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["list"],
        ["list", "backbones"],
        ["list", "recipes"],
        ["run", "--help"],
        ["run", "imagnet", "--backbone", "multiway_nano", "--data", "."],
        ["run", "imagenet", "--backbone", "multiway_nana", "--data", "."],
        ["run", "imagenet", "--backbone", "multiway_nano", "--data", ".", "--set", "epoch=3"],
        ["run", "imagenet", "--backbone", "multiway_nano", "--data", ".", "--split", "test"],
        ["run", "imagenet", "--backbone", "multiway_nano", "--data", "nowhere"],
        ["run", "nlvr2", "--backbone", "beit3_base_patch16_224", "--data", "."],
        ["run", "imagenet", "--backbone", "multiway_nano", "--data", ".", "--show", "2"],
        ["run", "flickr30k_zero_shot", "--backbone", "multiway_nano", "--data", ".", "--set", "epochs=1"],
        ["predict", "imagenet", "--backbone", "multiway_nano", "--data", ".", "--weights", "none.pth"],
        ["check", "imagnet", "--data", "."],
        ["check", "imagenet", "--data", "nowhere"],
        ["toy", "nowhere", "imagnet"],
        ["submit", "vqav2", "none.jsonl", "--data", ".", "--split", "test"],
    ],
)
def test_light_commands_and_wrong_calls_import_no_torch(arguments: list[str]) -> None:
    code = f"""
import sys
from harness.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
heavy = {{"torch", "numpy", "pandas", "mmengine", "timm", "PIL", "torchvision"}} & set(sys.modules)
if {arguments[0]!r} in ("toy", "submit"):  # these draw and read without PyTorch
    heavy -= {{"numpy", "PIL"}}
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)


@pytest.mark.spawn
def test_standard_output_holds_the_answer_alone(colours: Path, tmp_path: Path) -> None:
    arguments = call(colours, tmp_path, "--json", changes=(*FAST, "epochs=1", "warmup_epochs=0"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "harness", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert [row["metric"] for row in json.loads(done.stdout)] == ["top1", "top5"]
    assert "Effective batch 8 = 4 per process × 1 process(es) × 2 accumulation step(s)" in done.stderr


@pytest.mark.parametrize("name", ["tasks/__init__.py", "backbones.py"])
def test_the_module_runs_beside_modules_of_its_packages_names(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise SystemExit('the wrong one')")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "harness", "list", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_version(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("harness 0.")


def test_columns_are_honoured_in_a_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    assert main(["list", "backbones"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 70


def test_recipes_at_eighty_columns_break_no_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list", "recipes", "ade20k"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    first = [line.split()[0] for line in lines if line.strip()]
    for field in ("checkpoint_activations", "batch_size", "head.query_embed."):
        assert field in first or any(field in line.split() for line in lines) or field + "," in " ".join(lines)
    heads = [line.split()[1:] for line in lines if line.startswith(" field ")]
    assert len(heads) > 1
    from tasks import get

    assert [name for head in heads for name in head] == list(get("ade20k").recipes)
