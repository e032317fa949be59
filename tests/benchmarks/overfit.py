"""A detector learns its own 16 real photographs: boxes, masks, targets, losses and scoring, proven together.

Cascade Mask R-CNN on multiway_nano from random weights, through the engine: fine-tuned on 16 photographs of COCO
train2017, evenly spaced among those that the truth folder has, then predicted and scored on the same 16. A wrong
target, a shifted box or a mask in another order would keep it from them.

Target: a box AP of more than 50 %. The exit status is 1 when it is missed.

    python -m tests.benchmarks.overfit

Last figures:
    One thread of an AMD EPYC, others on the machine, torch 2.11.0, 400 epochs: box AP 63.2 (AP50 76.8), mask AP 43.3
    (AP50 64.4), 26 minutes. After 200 epochs box AP was 40.7.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import harness
from tests.benchmarks.report import Report, arguments, surroundings, use_threads
from tests.conftest import REPOSITORY
from tests.support.photographs import detection_folder

TARGET = 50.0  # percent
SHOWN = ("box_AP", "box_AP50", "box_AR100", "mask_AP", "mask_AP50", "mask_AR100")
CHANGES = (
    "image_size=256", "window=8", "head_channels=32", "roi_batch=32", "scale_jitter=[1.0, 1.0]", "batch_size=2",
    "micro_batch=2", "lr=5e-4", "warmup_epochs=3",
)  # fmt: skip


def measure(truth: Path, *, images: int, epochs: int) -> Report:
    """Fine-tune on, predict and score the same photographs."""
    with tempfile.TemporaryDirectory() as folder:
        data = detection_folder(truth, Path(folder) / "coco")
        began = time.monotonic()
        rows = harness.run(
            "coco_detection",
            backbone="multiway_nano",
            data=data,
            out=Path(folder) / "runs",
            split="train",
            limit=images,
            changes=[*CHANGES, f"epochs={epochs}"],
        )
        seconds = time.monotonic() - began
    found = {row.metric: row for row in rows}
    average = found["box_AP"].value
    return Report(
        title=f"Overfit {images} photographs, {epochs} epochs: {surroundings(torch.device('cpu'))}",
        rows=[{"metric": name, "%": found[name].value} for name in SHOWN],
        notes=[f"{seconds:.0f} s, fine-tuning {found['box_AP'].train_seconds:.0f} s of them"],
        missed=[] if average > TARGET else [f"box AP {average:.1f} %, target more than {TARGET:.0f} %"],
    )


def truth_folder() -> Path:
    """Real photographs, as the tests find them."""
    return Path(os.environ.get("MULTIWAY_TRUTH", REPOSITORY.parent / "shared" / "truth"))


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--threads", type=int, help="PyTorch's CPU threads")
    args = parser.parse_args(argv)
    if not truth_folder().is_dir():
        raise SystemExit(f"No photographs: {truth_folder()} is absent and MULTIWAY_TRUTH names no other folder.")
    use_threads(args.threads)
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(truth_folder(), images=args.images, epochs=args.epochs)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
