"""Gain of pretrained weights: every toy task fine-tuned from them and from random weights, under the same budget.

Each task runs once for each seed from either start. The difference is taken draw by draw (both runs share the bootstrap
draws of their data), its mean over the seeds has the interval over the samples, and the differences of the single seeds
stand beside it. Zero-shot tasks predict with the weights as they are.

Target: on every task the interval of the difference is above 0. The exit status is 1 when it is missed.

    harness toy runs/toy
    python -m tests.benchmarks.gains --data runs/toy        # of the bundled weights, or --weights and --tuned

Last figures: in backbones/multiway_nano.md. Missed by coco_detection, nlvr2 and vqav2; 66 minutes of two shared cores.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import backbones
import harness
import tasks
from backbones import bundled
from backbones import weights as weight_files
from leaderboards import replicates
from tasks.adapter import TaskContext
from tests.benchmarks.report import Report, Value, arguments, surroundings, use_threads

BACKBONE = "multiway_nano"
TASKS = (
    "imagenet", "ade20k", "coco_detection", "coco_captioning", "nocaps", "nlvr2", "vqav2", "coco_retrieval",
    "flickr30k_retrieval", "flickr30k_zero_shot",
)  # fmt: skip
LEVEL = (2.5, 97.5)  # percent


def random_dual_encoder(path: Path, *, seed: int) -> Path:
    """Weights of a dual encoder that has learnt nothing, for tasks that do not train."""
    adapter = tasks.get("flickr30k_zero_shot")
    recipe = adapter.recipes["nano"]
    torch.manual_seed(seed)
    backbone = backbones.build(BACKBONE, image_size=recipe.image_size)
    model = adapter.model(backbone, TaskContext(root=Path(), recipe=recipe))
    weight_files.save(model.state_dict(), path)
    return path


def gain(
    task: str, *, start: Path | None, data: Path, out: Path, seeds: int, changes: Sequence[str], limit: int | None
) -> dict[str, Value]:
    """The row of one task: its primary metric from both starts, and the difference."""
    adapter = tasks.get(task)
    trains = adapter.recipes["nano"].trains
    began = time.monotonic()
    values: dict[str, list[float]] = {"random": [], "pretrained": []}
    differences, names = [], tuple(values)
    for seed in range(seeds):
        found = []
        for name in names:
            weights = start if name == "pretrained" else "none"
            if not trains and name == "random":
                weights = random_dual_encoder(out / f"random-{seed}.safetensors", seed=seed)
            harness.run(
                task, backbone=BACKBONE, data=data, out=out / name, weights=weights, seed=seed, limit=limit,
                changes=changes if trains else (),
            )  # fmt: skip
            folder = out / name / task / f"{BACKBONE}-seed{seed}"
            own = {one.metric: one for one in replicates.read(folder / "replicates.npz")}[adapter.primary.name]
            values[name].append(own.value)
            found.append(own)
        differences.append(replicates.difference(found[1], found[0]))
    low, high = np.percentile(np.mean(differences, axis=0), LEVEL)
    by_seed = [after - before for before, after in zip(values["random"], values["pretrained"], strict=True)]
    return {
        "task": task, "metric": adapter.primary.name, "random": float(np.mean(values["random"])),
        "pretrained": float(np.mean(values["pretrained"])), "gain": float(np.mean(by_seed)), "low": float(low),
        "high": float(high), "by seed": " ".join(f"{value:+.1f}" for value in by_seed),
        "s": round(time.monotonic() - began),
    }  # fmt: skip


def _stage(task: str) -> bundled.Stage:
    """The stage of pretraining that a task begins with."""
    adapter = tasks.get(task)
    return adapter.begins_with(adapter.recipes["nano"])


def measure(
    names: Sequence[str],
    *,
    weights: Path | None,
    tuned: Path | None,
    data: Path,
    out: Path,
    seeds: int,
    changes: Sequence[str] = (),
    limit: int | None = None,
) -> Report:
    """The gains of the tasks; a run that is complete under `out` is not repeated.

    Args:
        weights, tuned: of the masked and of the contrastive stage; None for those bundled.
    """
    out.mkdir(parents=True, exist_ok=True)
    options = {"data": data, "out": out, "seeds": seeds, "changes": changes, "limit": limit}
    starts = {"masked": weights, "contrastive": tuned}
    rows = [gain(name, start=starts[_stage(name)], **options) for name in names]
    return Report(
        title=f"Gains of pretraining, {seeds} seed(s): {surroundings(torch.device('cpu'))}",
        rows=rows,
        notes=[f"budget: the nano recipes{' with ' + ' '.join(changes) if changes else ''}"],
        missed=[
            f"{row['task']}: the interval of the gain begins at {row['low']:.2f}" for row in rows if row["low"] <= 0
        ],
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), metavar="TASK")
    parser.add_argument("--weights", type=Path, help="of the masked stage (default: those bundled)")
    parser.add_argument("--tuned", type=Path, help="of the contrastive stage (default: --weights)")
    parser.add_argument("--data", type=Path, required=True, help="the toy data set: harness toy FOLDER")
    parser.add_argument("--out", type=Path, default=Path("runs/gains"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, help="PyTorch's CPU threads")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(
            args.tasks, weights=args.weights, tuned=args.tuned or args.weights, data=args.data, out=args.out,
            seeds=args.seeds, changes=args.changes, limit=args.limit,
        )  # fmt: skip
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
