from __future__ import annotations

import argparse

from harness.output import CommandOutput, table

HELP = "pretrain a backbone on images, texts and image-text pairs; the same command again goes on where it stopped"
STAGES = "nano_teacher, nano_tokenizer, nano_masked, nano_contrastive, …; base_… and large_… have the paper's numbers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help=STAGES)
    parser.add_argument("--data", metavar="ROOT", help="folder with images/, texts/ and pairs/, or: toy")
    parser.add_argument("--images", metavar="FOLDER", help="instead of images/")
    parser.add_argument("--texts", metavar="PATH", help="instead of texts/: a .txt file or a folder of them")
    parser.add_argument("--pairs", metavar="PATH", help="instead of pairs/: a Karpathy .json, .tar shards, or a folder")
    parser.add_argument("--out", default="runs/pretraining", metavar="DIR", help="a folder per stage (%(default)s)")
    parser.add_argument("--backbone", help="see `harness list backbones` (default: by the recipe)")
    parser.add_argument("--weights", metavar="FILE", help="to begin with, official ones too; none: random ones")
    parser.add_argument("--tokenizer", metavar="FILE", help="sentencepiece model (default: beside the weights)")
    parser.add_argument("--teacher", metavar="FILE", help="weights of a tokenizer's teacher (default: …_teacher's)")
    parser.add_argument("--teacher-backbone", metavar="NAME", help="of the teacher, or timm/NAME")
    parser.add_argument(
        "--image-tokenizer", metavar="FILE", help="codes of masked patches: tokenizer, clusters or BEiT v2's .pth"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help="change a recipe field"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", action="append", default=[], choices=("tensorboard", "wandb"))


OPTIONS = (
    "data", "images", "texts", "pairs", "out", "backbone", "weights", "tokenizer", "teacher", "teacher_backbone",
    "image_tokenizer", "changes", "seed",
)  # fmt: skip


def run(args: argparse.Namespace) -> CommandOutput:
    from tasks.pretraining import recipes

    recipes.get(args.recipe)  # a wrong name is told before PyTorch is imported
    from harness import distributed, pretraining, pretraining_plan

    distributed.start()
    stage = pretraining_plan.plan(args.recipe, **{name: getattr(args, name) for name in OPTIONS})
    made = pretraining.run(stage, log=args.log)
    written = {"result": str(made.result), "figures": str(stage.folder / "figures.csv")}
    written |= {"curves": str(made.curves)} if made.curves else {}
    return CommandOutput(written, table(f"Pretrained: {args.recipe}", ("file", "path"), list(written.items())))
