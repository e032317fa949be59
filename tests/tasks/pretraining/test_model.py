from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backbones import weights
from backbones.noise import Share, sharing
from backbones.tokenizer import BOS, EOS
from harness.passes import backward_on_all
from tasks.pretraining.masking import BlockMasking, PairMasking, TokenMasking, generator
from tasks.pretraining.model import MaskedDataModel
from tasks.pretraining.targets import CodeTarget, PixelTarget, normalised
from tests.backbones.test_multiway import SMALL, SMALL_GIANT, small

GRID, PATCH = SMALL.grid, SMALL.patch_size
CODES = 11
MASK = 49


class Brightness(CodeTarget):
    """A tokenizer whose code is a patch's brightness."""

    outputs = CODES

    def __init__(self) -> None:
        super().__init__()
        self.levels = torch.nn.Parameter(torch.tensor(float(CODES)))

    def view_size(self, grid: int) -> int:
        return grid * PATCH

    def forward(self, pixels: Tensor) -> Tensor:
        means = F.avg_pool2d(pixels.float().mean(1, keepdim=True) / 256, PATCH).flatten(1)
        return (means * self.levels).long()


def model(config=SMALL, target=None) -> MaskedDataModel:
    made = MaskedDataModel(small(config), target or Brightness())
    with torch.no_grad():
        for head in (made.mlm_head, made.mim_head):
            head.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    return made


def batch(count: int = 4, *, joint: bool = False, kinds: tuple[str, ...] = ("images", "texts", "pairs")) -> dict:
    """Images, texts and pairs with masks. The texts have different lengths; those of pairs are padded."""
    rng = generator(5)
    image_masking, token_masking = BlockMasking(grid=GRID, ratio=0.4), TokenMasking(ratio=0.3)
    pair_masking = PairMasking(image=image_masking, text=token_masking, joint=joint)
    pixels = torch.from_numpy(rng.integers(0, 256, (2, count, 3, PATCH * GRID, PATCH * GRID), dtype="uint8"))
    texts = torch.from_numpy(rng.integers(4, MASK, (2, count, 9)))
    texts[..., 0] = BOS
    texts[..., -1] = EOS
    lengths = [9, *(6 + number % 3 for number in range(count - 1))]
    padding = torch.arange(9) >= torch.tensor(lengths)[:, None]
    pairs_of = [pair_masking.masks(ids.numpy(), generator(number)) for number, ids in enumerate(texts[1])]
    pair_tokens = torch.stack([torch.from_numpy(masks.text) for masks in pairs_of]) & ~padding
    tokens = torch.stack([torch.from_numpy(token_masking.mask(ids.numpy(), rng)) for ids in texts[0]])
    whole = {
        "images": {
            "pixels": pixels[0],
            "masked_patches": torch.stack([torch.from_numpy(image_masking.mask(rng)).flatten() for _ in range(count)]),
        },
        "texts": {"text": texts[0].masked_fill(tokens, MASK), "target": texts[0], "masked_tokens": tokens},
        "pairs": {
            "pixels": pixels[1],
            "masked_patches": torch.stack([torch.from_numpy(masks.image).flatten() for masks in pairs_of]),
            "text": texts[1].masked_fill(pair_tokens, MASK),
            "text_padding": padding,
            "target": texts[1],
            "masked_tokens": pair_tokens,
        },
    }
    return {kind: whole[kind] for kind in kinds}


def part(whole: Mapping[str, Mapping[str, Tensor]], rows: slice) -> dict[str, Any]:
    return {kind: {name: value[rows] for name, value in fields.items()} for kind, fields in whole.items()}


@torch.no_grad()
def by_hand(model: MaskedDataModel, whole: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
    """Mean losses, a masked patch or token at a time and without any padding."""
    losses: dict[str, list[float]] = {"image": [], "text": [], "pair_image": [], "pair_text": []}
    for kind, fields in whole.items():
        for number in range(len(next(iter(fields.values())))):
            row = {name: value[number] for name, value in fields.items()}
            inputs: dict[str, Tensor] = {}
            if "text" in row:
                kept = ~row["text_padding"] if "text_padding" in row else slice(None)
                inputs["text"] = row["text"][kept][None]
            if "pixels" in row:
                inputs |= {
                    "image": normalised(row["pixels"][None]),
                    "vision_masked": row["masked_patches"][None],
                }
            encoded = model.beit3(**inputs)
            if "pixels" in row:
                codes = model.target(row["pixels"][None])[0]
                for place in row["masked_patches"].nonzero().flatten():
                    logits = model.mim_head(encoded.image[0, 1 + place])
                    name = "image" if kind == "images" else "pair_image"
                    losses[name].append(-logits.log_softmax(0)[codes[place]].item())
            if "text" in row:
                for place in row["masked_tokens"].nonzero().flatten():
                    logits = model.mlm_head(encoded.text[0, place])
                    name = "text" if kind == "texts" else "pair_text"
                    losses[name].append(-logits.log_softmax(0)[row["target"][place]].item())
    return {name: sum(values) / len(values) for name, values in losses.items() if values}


@pytest.mark.parametrize("config", [SMALL, SMALL_GIANT], ids=["decoupled", "giant"])
@pytest.mark.parametrize("joint", [False, True], ids=["separate", "joint"])
def test_the_loss_is_the_sum_of_four_means_over_masked_places(config, joint: bool) -> None:
    made = model(config).eval()
    whole = batch(joint=joint)
    expected = by_hand(made, whole)
    assert set(expected) == {"image", "text", "pair_image", "pair_text"}
    assert made(**whole, mode="loss")["loss"].item() == pytest.approx(sum(expected.values()), abs=1e-5)
    figures = made.figures()
    for name, value in expected.items():
        assert figures[f"{name}_loss"] == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(
    ("kinds", "objectives"),
    [(("images",), {"image"}), (("texts",), {"text"}), (("pairs",), {"pair_image", "pair_text"})],
)
def test_kinds_of_data_may_be_left_out(kinds: tuple[str, ...], objectives: set[str]) -> None:
    made = model().eval()
    whole = batch(kinds=kinds)
    expected = by_hand(made, whole)
    assert set(expected) == objectives
    assert made(**whole, mode="loss")["loss"].item() == pytest.approx(sum(expected.values()), abs=1e-5)


def test_a_masked_patch_is_not_seen() -> None:
    """Other pixels under the mask leave what is predicted as it was."""
    made = model(target=PixelTarget(PATCH)).eval()
    images = batch()["images"]
    hidden = F.interpolate(images["masked_patches"].view(-1, 1, GRID, GRID).float(), scale_factor=PATCH).bool()
    changed = torch.where(hidden, 255 - images["pixels"], images["pixels"])
    with torch.no_grad():
        tokens, others = (made._encoded({**images, "pixels": pixels}).tokens for pixels in (images["pixels"], changed))
    assert torch.equal(tokens, others)


def test_accuracies_count_predictions_that_are_right() -> None:
    made = model().eval()
    whole = batch()
    with torch.no_grad():
        made.mlm_head.weight.zero_()
        made.mlm_head.bias.zero_()
        made.mlm_head.bias[17] = 1
        made(**whole)
    figures = made.figures()
    target, masked = whole["texts"]["target"], whole["texts"]["masked_tokens"]
    assert figures["text_accuracy"] == pytest.approx((target[masked] == 17).float().mean().item())
    assert made.figures() == {}  # read once


def test_pixel_targets_have_no_accuracy() -> None:
    made = model(target=PixelTarget(PATCH)).eval()
    made(**batch())
    figures = made.figures()
    assert "image_accuracy" not in figures
    assert figures["image_loss"] > 0


def test_the_state_has_the_official_names_and_no_target() -> None:
    made = model()
    names = {name.partition(".")[0] for name in made.state_dict()}
    assert names == {"beit3", "mlm_head", "mim_head"}
    assert made.mlm_head.weight.shape == (SMALL.vocab_size, SMALL.dim)
    assert made.mim_head.weight.shape == (CODES, SMALL.dim)
    assert {name.partition(".")[0] for name, _ in made.named_parameters()} == {"beit3", "mlm_head", "mim_head"}


def test_a_pretrained_file_brings_its_heads(tmp_path) -> None:
    before, after = model(), MaskedDataModel(small(SMALL), Brightness())
    weights.save(before.state_dict(), tmp_path / "pretrained.safetensors")
    assert not torch.equal(before.mim_head.weight, after.mim_head.weight)
    report = weights.load(after, tmp_path / "pretrained.safetensors", new_heads=True)
    assert report.fresh == report.ignored == ()
    for head in ("mlm_head", "mim_head"):
        assert torch.equal(getattr(before, head).weight, getattr(after, head).weight)


def test_training_leaves_the_target_as_it_is() -> None:
    made = model().train()
    assert not made.target.training
    assert not made.target.levels.requires_grad
    made.double()
    assert made.target.levels.dtype == torch.float64  # it moves along


class Accumulating:
    """An optimizer that only accumulates gradients."""

    def autocast(self) -> Any:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()


def gradients(parts: int) -> dict[str, Tensor]:
    made = model(dataclasses.replace(SMALL, drop_path=0.5))
    made.train()
    whole = batch()
    rows = 4 // parts

    def noise(number: int) -> Any:
        return sharing(Share(seed=(3,), first=number * rows, count=rows, batch=4))

    pieces = [part(whole, slice(number * rows, (number + 1) * rows)) for number in range(parts)]
    backward_on_all(made, pieces, Accumulating(), noise=noise)
    return {name: value.grad for name, value in made.named_parameters() if value.grad is not None}


def test_gradients_do_not_depend_on_the_parts_of_a_batch() -> None:
    """Parts with different numbers of masked tokens: a mean of means would differ."""
    whole, split = gradients(1), gradients(4)
    assert whole.keys() == split.keys()
    for name, value in whole.items():
        assert torch.allclose(value, split[name], atol=1e-5), name
    counts = [int(row.sum()) for row in batch()["pairs"]["masked_tokens"]]
    assert len(set(counts)) > 1


def test_pairs_train_what_images_and_texts_alone_do_not() -> None:
    made = model(SMALL_GIANT)
    made(**batch(), mode="loss")["loss"].backward()
    unused = [name for name, value in made.named_parameters() if value.grad is None]
    assert unused == []
    alone = model(SMALL_GIANT)
    alone(**batch(kinds=("images", "texts")), mode="loss")["loss"].backward()
    unused = {name for name, value in alone.named_parameters() if value.grad is None}
    assert unused
    assert all(".VL." in name for name in unused)
