"""Kills at single changes of the disk: the next start ends as one that nothing interrupted."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import weights
from harness import checkpoint, stored_origin, workdir
from harness.checkpoint import Progress
from harness.predictions import PredictionWriter, done, merge, read
from harness.training import save_final
from leaderboards import rows
from tests.harness.test_checkpoint import Line, begun, step
from tests.support.rows import of_run

IDS = [f"s{number}" for number in range(5)]
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
STRIDE = int(os.environ.get("MULTIWAY_ATTACK_STRIDE", 4))  # 1: every change of the disk, and not some of them
WRITING = os.O_WRONLY | os.O_RDWR


def train_and_predict(folder: Path) -> None:
    """The disk's side of a run: checkpoints, weights, predictions, their origin, rows."""
    with workdir.opened(folder / "run", {"task": "x"}, {}) as work:
        if not work.fine_tuned.exists():
            state, last = begun(), work.checkpoints / workdir.CHECKPOINT
            before = checkpoint.read_progress(last, run=work.run_id, steps=3)
            if before.step:
                checkpoint.load(last, state)
            for number in range(before.step, 3):
                step(state, number)
                checkpoint.save(last, state, Progress(step=number + 1, run=work.run_id))
            save_final(state.result, work.checkpoints, {"seed": 1})
        target = work.predictions("val")
        if not (target.exists() and stored_origin.origin_file(target).exists()):
            if not target.exists():
                parts = target.with_suffix("")
                have = done(parts) if parts.is_dir() else set()
                writer = PredictionWriter(parts, rank=0)
                for name in IDS:
                    if name not in have:
                        writer.append([{"id": name, "feature": np.full(3, int(name[1:]), np.float32)}])
                writer.close()
                merge(parts, target, IDS)
            stored_origin.write(target, {"backbone": "nano"})
        rows.write(folder / "results.csv", [of_run("r", metric=name) for name in ("top1", "top5")])


def left(folder: Path) -> dict[str, bytes]:
    """Content of the disk, but for names and times of the run."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.json", ".lock", "results.csv.lock")
    }


def in_child(call: Callable[[], None], *, die_at: int | None) -> int:
    """Make a call in a forked process that is killed before its change of the disk number `die_at`; its status."""
    if pid := os.fork():
        return os.waitpid(pid, 0)[1]
    seen = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event not in CHANGES or (event == "open" and not (arguments[2] or 0) & WRITING):
            return
        if seen == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    try:
        sys.stderr = sys.__stderr__ = Path(os.devnull).open("w")  # noqa: SIM115
        sys.addaudithook(watch)
        call()
        os._exit(0)
    except BaseException:
        os._exit(1)


@pytest.mark.slow
def test_a_kill_before_any_change_of_the_disk_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = tmp_path / "whole"
    assert in_child(lambda: train_and_predict(whole), die_at=None) == 0
    expected, points = left(whole), 0
    assert [record["id"] for record in read(whole / "run" / "predictions" / "val.jsonl")] == IDS
    while True:
        folder = tmp_path / str(points)
        status = in_child(lambda: train_and_predict(folder), die_at=points)  # noqa: B023
        if status == 0:
            break
        assert status == signal.SIGKILL
        assert in_child(lambda: train_and_predict(folder), die_at=None) == 0, points  # noqa: B023
        found = left(folder)
        assert found.keys() == expected.keys(), points
        assert [name for name in found if found[name] != expected[name]] == [], points
        points += STRIDE
    assert points > 30


def test_the_disk_has_a_file_before_what_it_replaces_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the system's calls, as a power cut meets them."""
    (tmp_path / workdir.CHECKPOINT).write_bytes(b"checkpoint")
    done_: list[tuple[str, str]] = []

    def name_of(handle: int) -> str:
        return Path(f"/proc/self/fd/{handle}").readlink().name

    fsync, replace, unlink = os.fsync, Path.replace, Path.unlink
    monkeypatch.setattr(os, "fsync", lambda handle: (done_.append(("sync", name_of(handle))), fsync(handle))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (done_.append(("rename", self.name)), replace(self, to))[1])
    monkeypatch.setattr(
        Path, "unlink", lambda self, **options: (done_.append(("remove", self.name)), unlink(self, **options))[1]
    )
    save_final(Line(), tmp_path, {})
    partial = f"{workdir.FINAL}.partial"
    assert done_ == [
        ("sync", partial), ("rename", partial), ("sync", tmp_path.name), ("remove", workdir.CHECKPOINT),
    ]  # fmt: skip
    assert weights.read(tmp_path / workdir.FINAL).keys() == Line().state_dict().keys()
