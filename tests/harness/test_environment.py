"""Standard output that is closed, full or has few characters, and machines without shared memory or free inodes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from backbones import InputError
from harness import distributed, loader_faults, messages
from harness.loading import Unbroken
from harness.predictions import PredictionWriter
from harness.workdir import opened
from tests.conftest import REPOSITORY

LIST = ("list", "backbones", "--json")


def call(
    *words: str,
    environment: Mapping[str, str] = os.environ,
    before: Callable[[], None] | None = None,
    **streams: object,
) -> subprocess.Popen:
    """Start the command in a fresh interpreter, which imports nothing heavy for these."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *words],
        cwd=REPOSITORY, env=dict(environment), preexec_fn=before, stderr=subprocess.PIPE, text=True, **streams,
    )  # fmt: skip


@pytest.mark.spawn
def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = call(*LIST, stdout=write_end)
    assert (done.communicate()[1], done.returncode) == ("", 1)


@pytest.mark.spawn
def test_a_full_output_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        done = call(*LIST, stdout=full)
        told = done.communicate()[1]
    assert done.returncode == 1
    assert told.startswith("harness: The answer cannot be printed (No space left on device).")
    assert len(told.splitlines()) == 1


@pytest.mark.spawn
def test_a_closed_output_is_no_error() -> None:
    done = call(*LIST, before=lambda: os.close(1))
    assert (done.communicate()[1], done.returncode) == ("", 0)


@pytest.mark.spawn
def test_characters_that_a_locale_lacks_are_written_as_escapes() -> None:
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "100"}
    done = call("list", "tasks", environment=ascii_only, stdout=subprocess.PIPE)
    out, told = done.communicate()
    assert (done.returncode, told) == (0, "")
    assert "imagenet" in out
    done = call("score", "naïve", "x", "--data", ".", "--json", environment=ascii_only, stdout=subprocess.PIPE)
    out, told = done.communicate()
    assert done.returncode == 2
    assert "na\\xefve" in told
    assert "naïve" in json.loads(out)["error"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "ended from outside.*--set workers="),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "ended from outside"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. Please raise your shared memory"),
         "/dev/shm is too small"),
        (RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nunable to write to file </torch_1_2>: No "
                      "space left on device (28)"), "/dev/shm is too small.*--set workers=0"),
        (OSError(errno.ENOSPC, "No space left on device"), "/dev/shm is too small"),
        (OSError(errno.EROFS, "Read-only file system"), "/dev/shm is too small"),
    ],
)  # fmt: skip
def test_faults_of_loader_processes_say_which_limit_it_was(error: Exception, message: str) -> None:
    def batches():
        yield 1
        raise error

    read = Unbroken(batches())
    assert next(read) == 1
    with pytest.raises(InputError, match=message):
        next(read)
    if isinstance(error, RuntimeError):  # PyTorch's signal handler raises it anywhere in the main process
        assert "--set workers=" in messages.error_text(error, args=None)
    assert loader_faults.explained(RuntimeError("shapes do not match")) == ""


def test_no_room_for_a_predictions_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(InputError, match=r"cannot be written to .*inodes"):
        PredictionWriter(tmp_path / "val", rank=0)


def test_a_process_whose_partner_is_gone_points_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    error = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1")
    assert messages.error_text(error, args=None) == "Another process of this run ended; what it said tells why."


def test_a_process_that_cannot_join_is_told_where(monkeypatch: pytest.MonkeyPatch) -> None:
    group = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "no port"}
    for name, value in group.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"Process 0 of 2 cannot join the others at 127\.0\.0\.1:no port"):
        distributed.start()


@pytest.mark.parametrize("fault", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_run_works_where_files_cannot_be_locked(
    fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(fault, "Input/output error" if fault == errno.EIO else "No locks available")

    monkeypatch.setattr("backbones.files.fcntl.flock", refuse)
    if fault == errno.EIO:  # which is no lack of locks
        with pytest.raises(InputError, match=r"cannot be locked \(Input/output error\)"), opened(tmp_path, {}, {}):
            pass
        return
    with opened(tmp_path, {"task": "x"}, {}) as work:
        assert work.run_id
    assert f"{tmp_path}: this file system has no locks." in capfd.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{}", b'{"identity": null}', b'{"identity": {}, "run_id": 1, "started": ""}', None],
)
def test_a_damaged_run_json_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.mkdir() if content is None else file.write_bytes(content)
    with (
        pytest.raises(InputError, match=r"run\.json \(what decides the run\) cannot be read.*Remove the folder"),
        opened(tmp_path, {}, {}),
    ):
        pass
