"""Signals and kills of the main process alone: a quick end with one line, and a restart at once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.processes import Started
from tests.support.runs import command, execute, folder

LONG = ("epochs=4000", "workers=1")


def begun(colours: Path, out: Path, *changes: str) -> Started:
    """A run that has begun to train."""
    run = Started("harness", *command(colours, out, *LONG, *changes))
    deadline = time.monotonic() + 120
    while not (folder(out) / "checkpoints" / "last.pth").exists():
        assert run.poll() is None, run.wait().stderr
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return run


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.spawn
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_training_within_two_seconds_with_one_line(
    number: int, status: int, colours: Path, tmp_path: Path
) -> None:
    run = begun(colours, tmp_path)
    workers = children(run.pid)
    assert workers
    began = time.monotonic()
    os.kill(run.pid, number)
    ended = run.wait(timeout=20)
    assert time.monotonic() - began < 5  # two on a machine that has nothing else to do
    assert ended.returncode == status
    assert ended.stderr.count("The same command goes on where it stopped.") == 1
    assert "Traceback" not in ended.stderr
    assert not any(alive(worker) for worker in workers)
    assert not list(tmp_path.rglob("*.lock.partial"))


@pytest.mark.spawn
def test_a_killed_main_process_takes_its_workers_along_and_holds_no_lock(colours: Path, tmp_path: Path) -> None:
    """As the system kills for want of memory: one process, and the same command starts at once."""
    for _ in range(3):
        run = begun(colours, tmp_path)
        workers = children(run.pid)
        assert workers
        (folder(tmp_path) / "checkpoints" / "last.pth").unlink()
        os.kill(run.pid, signal.SIGKILL)
        again = Started("harness", *command(colours, tmp_path, *LONG))
        deadline = time.monotonic() + 60
        while not (folder(tmp_path) / "checkpoints" / "last.pth").exists():
            assert again.poll() is None, again.wait().stderr
            assert time.monotonic() < deadline
            time.sleep(0.05)
        again.kill()
        run.kill()
        assert not any(alive(worker) for worker in workers)
        (folder(tmp_path) / "checkpoints" / "last.pth").unlink()


@pytest.mark.spawn
def test_what_a_kill_left_is_removed_by_the_next_start(colours: Path, tmp_path: Path) -> None:
    short = command(colours, tmp_path, "epochs=1", "warmup_epochs=0")
    execute(short)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    own = folder(tmp_path)
    left = [
        own / "checkpoints" / "last.pth", own / "checkpoints" / "final.safetensors.partial", own / "run.json.partial",
        own / "predictions" / "val" / "0-0.jsonl", own / "predictions" / "val.merging" / "0-0.jsonl",
    ]  # fmt: skip
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"left")
    execute(short)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == whole
    assert not any(path.exists() for path in left)
    assert not (own / "predictions" / "val").exists()


@pytest.mark.spawn
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "../../x"], "--name is the name of a folder under --out"),
        (["--name", "/somewhere"], "--name is the name of a folder under --out"),
        (["--name", ".."], "--name is the name of a folder under --out"),
        (["--name", ""], "--name is the name of a folder under --out"),
        (["--name", "x" * 300], "--name is the name of a folder under --out"),
        (["--seed", "-1"], "--seed is a whole number from 0"),
        (["--seed", str(1 << 32)], "--seed is a whole number from 0"),
        (["--seed", str(1 << 200)], "--seed is a whole number from 0"),
        (["--limit", "0"], "--limit is a number of samples from 1"),
    ],
)
def test_names_seeds_and_limits_are_looked_at_first(
    words: list[str], message: str, colours: Path, tmp_path: Path
) -> None:
    done = processes.run("harness", *command(colours, tmp_path / "out", extra=words))
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())
