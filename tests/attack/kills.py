"""Kill whole runs at random moments and print the table: python -m tests.attack.kills --each 25.

The main process of a run gets SIGKILL at a random moment, and the same command starts at once, up to five times before
it may end. What it leaves then has to be what a run leaves that nothing interrupted: the same weights, predictions,
bootstrap draws and rows, to the last bit, and no file more. Of two processes the first is killed, and the other one has
ten seconds to end by itself, or to say that it waits for the first.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file

from leaderboards import replicates
from tests.support import instances
from tests.support.processes import Started
from tests.support.questions import colour_questions
from tests.support.runs import command
from tests.support.spm import train
from tests.tasks.captioned import write_coco

AT_ONCE = 5  # kills before a run may end
WITHIN = 10.0  # seconds
LIMIT = 300  # seconds of a run
# Columns of a row in which two runs of one command differ; the weights' file says how long they took.
OWN = frozenset(
    {
        "started", "run_id", "finetuned_sha256", "train_seconds", "train_peak_memory", "predict_seconds",
        "samples_per_second", "peak_memory",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Target:
    """A run to kill. write: draws its data. changes: of its recipe. processes: 0 where it is in no group."""

    name: str
    task: str
    write: Callable[[Path], object]
    changes: Sequence[str]
    processes: int = 0

    def start(self, data: Path, spm: Path, out: Path) -> Started:
        options = ("--weights", "none", "--tokenizer", spm)
        arguments = command(data, out, *self.changes, task=self.task, extra=options)
        return Started("harness", *arguments, processes=self.processes)


def write_boxes(root: Path) -> None:
    """Twelve images of an object each, in either split."""
    kinds = list(instances.CATEGORIES)
    for split in ("train", "val"):
        boxes = [instances.rectangle(n, n, kinds[n % 3], (n, 6, 14, 12)) for n in range(1, 13)]
        instances.write(root, split, [(n, 40, 30 + n) for n in range(1, 13)], boxes)


_VQA = {"task": "vqav2", "write": colour_questions}
TARGETS = (
    Target(name="VQA", changes=("epochs=4", "workers=1"), **_VQA),
    Target(name="captioning with Java", task="coco_captioning", write=write_coco, changes=("epochs=3",)),
    Target(
        name="detection", task="coco_detection", write=write_boxes,
        changes=("image_size=32", "head_channels=16", "window=2", "roi_batch=32"),
    ),
    Target(name="VQA, two processes", changes=("epochs=4",), processes=2, **_VQA),
)  # fmt: skip


@dataclass
class Tally:
    """Kills of a target, runs that ended after them, and what should not have happened."""

    kills: int = 0
    runs: int = 0
    bad: list[str] = field(default_factory=list)


def attack(target: Target, *, kills: int, seed: int, folder: Path, spm: Path) -> Tally:
    """Kill as often as asked for, in as many runs as that takes."""
    rng, tally, data = random.Random(seed), Tally(), folder / "data"
    target.write(data)
    for name in ("first", "whole"):  # the first waits for the imports of the process that all others are forked from
        began = time.monotonic()
        _end(target.start(data, spm, folder / name))
    seconds, whole = time.monotonic() - began, left(folder / "whole")
    while tally.kills < kills:
        out = folder / f"out{tally.runs}"
        for _ in range(min(AT_ONCE, kills - tally.kills)):
            run = target.start(data, spm, out)
            time.sleep(rng.uniform(0, seconds))
            if run.poll() is not None:  # it was done already
                break
            os.kill(run.pid, signal.SIGKILL)
            tally.kills += 1
            if target.processes and not _others_end_or_tell(run):
                tally.bad.append(f"{out.name}: a process went on for {WITHIN:g} s after the first was killed")
        try:
            _end(target.start(data, spm, out))
        except AssertionError as error:
            tally.bad.append(f"{out.name}: {error}")
        else:
            tally.bad += [f"{out.name}: {name} differs" for name in _differing(whole, left(out))]
        tally.runs += 1
    return tally


def left(out: Path) -> dict[str, object]:
    """Content of the files of a run that ended, by name, without its times; of other files the name alone."""
    return {
        str(path.relative_to(out)): READERS.get(path.suffix, lambda path: None)(path)
        for path in out.rglob("*")
        if path.is_file() and "log" not in path.parts and path.suffix != ".lock"
    }


def _tensors(path: Path) -> object:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


def _draws(path: Path) -> object:
    return {(one.metric, one.value): one.replicates.tobytes() for one in replicates.read(path)}


def _rows(path: Path) -> object:
    if path.name != "result.json":
        return None
    return [{name: row[name] for name in row.keys() - OWN} for row in json.loads(path.read_text())]


READERS = {
    ".safetensors": _tensors, ".npz": _draws, ".json": _rows, ".jsonl": Path.read_bytes, ".arrays": Path.read_bytes,
}  # fmt: skip


def _differing(whole: dict[str, object], found: dict[str, object]) -> list[str]:
    return [name for name in sorted(whole | found) if whole.get(name, "absent") != found.get(name, "absent")]


def _end(run: Started) -> None:
    done = run.wait(timeout=LIMIT)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-2000:]}"


def _others_end_or_tell(run: Started) -> bool:
    """Wait until all processes of a group have ended, or say for whom they wait; they are killed then."""
    deadline = time.monotonic() + WITHIN
    while run.running() and time.monotonic() < deadline:
        time.sleep(0.05)
    # One that was still to meet the first cannot know that it will not come.
    held = not run.running() or "waits for the others at" in run.errors()
    run.kill()
    return held


def main() -> int:
    """Attack; returns 1 where a run did not go on as if nothing had happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=25, help="kills of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the targets' names")
    args = parser.parse_args()
    print(f"{'target':<22}{'kills':>7}{'runs':>7}{'bad':>7}{'s':>7}", flush=True)
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        spm = train(Path(folder, "nano.spm"), pieces=2046)
        for number, target in enumerate(TARGETS):
            if args.only not in target.name:
                continue
            began = time.monotonic()
            found = attack(target, kills=args.each, seed=args.seed, folder=Path(folder, str(number)), spm=spm)
            seconds = time.monotonic() - began
            print(f"{target.name:<22}{found.kills:>7}{found.runs:>7}{len(found.bad):>7}{seconds:>7.0f}", flush=True)
            bad += [f"{target.name}, {one}" for one in found.bad]
    print("\n".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
