"""Step of masked image modelling beside a plain timm VisionTransformer of the same width, depth and number of tokens.

Both predict the codes of 40% of the patches, in the same precision, and take a step of AdamW; steps alternate. timm's
model computes all patches' logits, as a head of its own does, and reads the loss from the masked ones. The codes are
given: "with targets" adds a tokenizer's pass over the same images, which is what a step of pretraining costs.
"peak share" is the model's FLOPs over those of a large float32 matrix product in the same process.

Target: 1.5 times timm's images per second. The exit status is 1 when it is missed.

    python -m tests.benchmarks.pretraining --backbone multiway_nano

Last figures (multiway_nano, bf16, one thread of a loaded AMD EPYC): 0.90 of timm's, with targets 0.70. Missed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.optim import AdamW, Optimizer

import backbones
from harness.device import autocast, device, precision
from harness.optim import adamw
from harness.peak import step_flops
from tasks.pretraining import recipes
from tasks.pretraining.codebook import Codebook
from tasks.pretraining.masking import BlockMasking, generator
from tasks.pretraining.model import MaskedDataModel
from tasks.pretraining.targets import CodeTarget, normalised
from tasks.pretraining.tokenizer import ImageTokenizer, TokenizerTarget, encoder_config
from tests.benchmarks import timing
from tests.benchmarks.report import Report, arguments, surroundings, use_threads

CODES = 256
CODE_DIM = 16
RECIPE = recipes.get("nano_masked")
TARGET = 1.5
PRODUCT = 1024  # side of the matrices whose product is the peak


class GivenCodes(CodeTarget):
    """Codes that are there already."""

    outputs = CODES

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        self._codes = codes

    def view_size(self, grid: int) -> int:
        return grid

    def forward(self, pixels: Tensor) -> Tensor:
        return self._codes


def timm_loss(model: VisionTransformer, batch: dict[str, Tensor], codes: Tensor) -> Tensor:
    """Cross-entropy of the masked patches' codes; `batch` as `MaskedDataModel` takes images."""
    tokens = model.forward_features(normalised(batch["pixels"]))[:, 1:]
    masked = batch["masked_patches"]
    return F.cross_entropy(model.head(tokens)[masked].float(), codes[masked])


def stepper(optimizer: Optimizer, loss: Callable[[], Tensor], asked: str) -> Callable[[], None]:
    """One optimizer step on a loss."""
    where = device()

    def step() -> None:
        with autocast(precision(asked, where), where):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(*, backbone: str, batch_size: int, rounds: int, asked: str) -> Report:
    """Images per second of each, and ours in units of timm's."""
    config, where = backbones.config(backbone), device()
    rng = torch.Generator().manual_seed(0)
    shape = (batch_size, 3, config.image_size, config.image_size)
    masking = BlockMasking(grid=config.grid, ratio=0.4, smallest=0.08)
    masks = [torch.from_numpy(masking.mask(generator(number))).flatten() for number in range(batch_size)]
    images = {
        "pixels": torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8).to(where),
        "masked_patches": torch.stack(masks).to(where),
    }
    codes = torch.randint(CODES, (batch_size, config.grid**2), generator=rng).to(where)
    tokenizer = ImageTokenizer(encoder_config(backbone, image_size=config.image_size), Codebook(CODES, CODE_DIM))
    plain = VisionTransformer(
        img_size=config.image_size, patch_size=config.patch_size, embed_dim=config.dim, depth=config.layers,
        num_heads=config.heads, mlp_ratio=config.ffn_dim / config.dim, num_classes=CODES, global_pool="",
    ).to(where)  # fmt: skip
    models = {
        "ours": MaskedDataModel(backbones.build(backbone), GivenCodes(codes)).to(where).train(),
        "ours, with targets": MaskedDataModel(backbones.build(backbone), TokenizerTarget(tokenizer)).to(where).train(),
    }
    steps = {
        name: stepper(adamw(model, RECIPE), lambda model=model: model(images=images, mode="loss")["loss"], asked)
        for name, model in models.items()
    }
    steps["timm"] = stepper(
        AdamW(plain.train().parameters(), RECIPE.lr), lambda: timm_loss(plain, images, codes), asked
    )
    square = torch.randn(PRODUCT, PRODUCT, device=where)
    seconds = timing.interleaved(steps | {"product": lambda: square @ square}, rounds=rounds, warmup=2)
    medians = timing.medians(seconds)
    fastest = 2 * PRODUCT**3 / min(seconds["product"])
    flops = {name: step_flops(model, {"images": images}) for name, model in models.items()}
    rows = [
        {
            "step": name, "images/s": round(batch_size / medians[name], 1),
            "of timm's": round(timing.speedup(seconds, name, "timm"), 3),
            "peak share": f"{flops[name] / medians[name] / fastest:.0%}" if name in flops else "",
        }
        for name in steps
    ]  # fmt: skip
    ratio = timing.speedup(seconds, "ours", "timm")
    return Report(
        title=f"Masked images, {backbone}, batch {batch_size}, {precision(asked, where)}: {surroundings(where)}",
        rows=rows,
        missed=[f"ours takes {ratio:.2f} of timm's images per second, not {TARGET}"] if ratio < TARGET else [],
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--backbone", default="multiway_nano")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp16", "fp32"))
    parser.add_argument("--threads", type=int, help="PyTorch's CPU threads")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    report = measure(backbone=args.backbone, batch_size=args.batch_size, rounds=args.rounds, asked=args.precision)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
