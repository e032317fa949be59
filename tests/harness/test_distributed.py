"""The main process decides by a look at the disk, and the others are told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from backbones.errors import InputError
from harness import distributed
from harness.cli import main
from harness.device import device
from tests.support import processes
from tests.support.runs import command, folder


@pytest.fixture(scope="module")
def plain(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process."""
    out = tmp_path_factory.mktemp("plain")
    assert main(command(colours, out, "precision=fp32")) == 0
    return folder(out)


def run_with_own_view(view: str, colours: Path, out: Path) -> subprocess.CompletedProcess:
    call = command(colours, out, "precision=fp32")
    return processes.run("tests.harness.own_view", view, out / "imagenet", *call, processes=2)


def assert_predicts_the_same(out: Path, plain: Path) -> None:
    one, two = (path / "predictions" / "val.jsonl" for path in (folder(out), plain))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.spawn
def test_a_process_that_sees_files_late_goes_the_main_ones_way(colours: Path, plain: Path, tmp_path: Path) -> None:
    """The run was killed between the merging of its predictions and the file that says who made them."""
    run = folder(tmp_path)
    shutil.copytree(plain, run)
    written = (run / "checkpoints" / "final.safetensors").stat().st_mtime_ns
    (run / "predictions" / "val.json").unlink()
    done = run_with_own_view("late", colours, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (run / "checkpoints" / "final.safetensors").stat().st_mtime_ns == written
    assert (run / "predictions" / "val.json").is_file()
    assert_predicts_the_same(tmp_path, plain)


@pytest.mark.spawn
def test_a_process_that_sees_files_early_goes_the_main_ones_way(colours: Path, plain: Path, tmp_path: Path) -> None:
    """It would take the fine-tuning and the predictions for done, and leave the main process to wait for it."""
    done = run_with_own_view("early", colours, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (folder(tmp_path) / "predictions" / "val").exists()
    assert (folder(tmp_path) / "result.json").read_text().count('"value"') == 2


@pytest.mark.spawn
def test_every_process_has_the_main_ones_finding_and_error() -> None:
    done = processes.run("tests.harness.decide", processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0 UsageError found by 0"] * 2


@pytest.mark.parametrize(
    ("environment", "gpus", "index"),
    [
        ({}, 1, 0),
        ({"LOCAL_RANK": "3"}, 8, 3),
        ({"LOCAL_RANK": "3"}, 1, 0),  # a scheduler shows each process its own GPU only
        ({"SLURM_LOCALID": "2"}, 4, 2),
    ],
)
def test_each_process_takes_its_own_gpu(
    environment: dict[str, str], gpus: int, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert device() == torch.device("cuda", index)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"2 GPUs are visible.*--nproc-per-node 2"):
        device()


def test_a_file_that_never_appears_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed.wait_for(tmp_path / "absent")  # the main process knows
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "VISIBLE_WITHIN", 0.1)
    with pytest.raises(InputError, match="all machines share"):
        distributed.wait_for(tmp_path / "absent")


def test_torchrun_is_told_why_a_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    assert main(["score", "imagenet", str(tmp_path / "absent.jsonl"), "--data", str(tmp_path)]) == 1
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file=str(file))
    told = capsys.readouterr().err.removeprefix("harness: ").strip()
    assert failure.message["message"] == failure.message["extraInfo"]["py_callstack"] == told
    assert failure.timestamp > 0
