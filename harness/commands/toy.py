from __future__ import annotations

import argparse

from harness.output import CommandOutput, table

HELP = "draw the toy data set in the benchmarks' own file formats"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="ROOT", help="folder to write; a data root for every task with data there")
    parser.add_argument(
        "sets",
        metavar="SET",
        nargs="*",
        help="imagenet, ade20k, nlvr2, coco, flickr30k, nocaps, or the tasks whose data are wanted (default: all)",
    )
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> CommandOutput:
    from harness.experiment import require_seed
    from harness.progress import track
    from harness.toy_sets import sets
    from tasks import toy

    require_seed(args.seed)
    folders = toy.write(args.root, tasks=sets(args.sets) or toy.FOLDERS, seed=args.seed, progress=track)
    written = {name: str(path) for name, path in folders.items()}
    return CommandOutput(written, table("Toy data", ("data set", "folder"), list(written.items())))
