"""Options that several commands share."""

from __future__ import annotations

import argparse
from typing import Any

DATASET = "of the data for the rows, where they are not the benchmark's own"


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Options of `harness.experiment.plan`, besides tasks and weights."""
    parser.add_argument("--backbone", required=True, help="see `harness list backbones`, or timm/NAME")
    parser.add_argument("--data", required=True, metavar="ROOT", help="the task's data folder, or the folder above it")
    parser.add_argument("--out", default="runs", metavar="DIR", help="holds results.csv and the runs (default: runs)")
    parser.add_argument("--name", help="of the run's folder (default: from backbone and seed)")
    parser.add_argument("--tokenizer", metavar="FILE", help="sentencepiece model (default: beside the weights)")
    parser.add_argument("--recipe", help="nano, base, large, giant or a variant (default: by the backbone)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help="change a recipe field"
    )
    parser.add_argument(
        "--split", action="append", help="split to predict and score (default: the task's); again for more of them"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, metavar="N", help="N samples of each split, evenly spaced")
    parser.add_argument(
        "--trained-on", action="append", default=[], metavar="TASK:SPLIT",
        help="what the weights have seen; scores on it are marked as leaks; again for more of them",
    )  # fmt: skip
    parser.add_argument(
        "--verify-images", action="store_true", help="read all images first, and put the hash of them into the rows"
    )


def add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--show", type=int, default=0, metavar="N", help="write pictures of N predictions, for tasks that have them"
    )


def experiment(args: argparse.Namespace) -> dict[str, Any]:
    """The shared options as keywords."""
    names = (
        "backbone", "tokenizer", "data", "out", "name", "recipe", "changes", "split", "seed", "limit", "verify_images",
        "trained_on",
    )  # fmt: skip
    return {name: getattr(args, name) for name in names}
