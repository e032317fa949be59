"""Frequent slips, each with the exit status and the words that a newcomer should get."""

from __future__ import annotations

from typing import NamedTuple

RUN = "--backbone multiway_nano --data toy --out slips"


class Slip(NamedTuple):
    """A command with a mistake in it.

    quick: a wrong call, which has to be answered before anything heavy is imported.
    """

    command: str
    status: int
    says: str
    quick: bool = False


SLIPS = (
    Slip(f"run imagnet {RUN}", 2, "Did you mean imagenet?", quick=True),
    Slip("run imagenet --backbone multiway_nana --data toy", 2, "Did you mean multiway_nano?", quick=True),
    Slip(f"run imagenet {RUN} --set epoch=3", 2, "Did you mean epochs", quick=True),
    Slip(f"run imagenet {RUN} --recipe nani", 2, "Did you mean nano?", quick=True),
    Slip(f"run imagenet {RUN} --split test", 2, "Known: train, val", quick=True),
    Slip("run imagenet --backbone multiway_nano --data nowhere", 1, "There is no folder nowhere", quick=True),
    Slip(f"run imagenet {RUN} --show 2", 2, "leave out --show", quick=True),
    Slip(f"run imagenet {RUN} --weights none.pth", 1, "No weights file at none.pth", quick=True),
    Slip(f"run flickr30k_zero_shot {RUN} --set epochs=1", 2, "does not fine-tune", quick=True),
    Slip("run vqav2 --backbone beit3_base_patch16_480 --data toy", 2, "beit3.spm", quick=True),
    Slip("run vqav2 --backbone timm/vit_base_patch16_224 --data toy", 2, "needs a text encoder", quick=True),
    Slip(f"run imagenet {RUN} --log wandb", 1, "Install it: ", quick=True),
    Slip("check imagnet --data toy", 2, "Did you mean imagenet?", quick=True),
    Slip("check imagenet --data nowhere", 1, "There is no folder nowhere", quick=True),
    Slip("toy more coco_detektion", 2, "Did you mean coco_detection", quick=True),
    Slip("list backbones nlvr2", 2, "harness list recipes nlvr2", quick=True),
    Slip("score nlvr2 absent.csv --data toy", 1, "No predictions at absent.csv", quick=True),
    Slip("submit nlvr2 absent.csv --data toy --split dev", 1, "absent.csv", quick=True),
    Slip("predict vqav2 --backbone multiway_nano --data toy --weights README.md --split test-dev --score", 2,
         "not public", quick=True),
    Slip(f"run imagenet {RUN} --set batch_size=5000 --set micro_batch=8", 2, "The whole command: "),
    Slip("run vqav2 --backbone multiway_nano --data toy/coco/val2014 --out slips", 1, "v2_"),
    Slip("check vqav2 --data .", 1, "FAIL"),
    Slip("score nlvr2 all_true.csv --data toy --split test-P", 1, "missing"),
)  # fmt: skip
