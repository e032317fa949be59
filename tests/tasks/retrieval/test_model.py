from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import backbones
from backbones import weights
from backbones.multiway import Multiway
from tasks.retrieval.model import DualEncoder, contrastive_loss
from tests.backbones.test_multiway import SMALL_GIANT, TOLERANCE, official_config, pair, small
from tests.support import processes
from tests.tasks.retrieval import joint_batch


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training path"])
def test_features_and_loss_equal_the_official_ones(reference: Path, reference_meta: dict, grad: bool) -> None:
    model = DualEncoder(Multiway(official_config(reference_meta))).eval()
    report = weights.load(model, reference / "retrieval.weights.safetensors")
    assert report.ignored == report.fresh == ()
    io = load_file(reference / "retrieval.io.safetensors")
    batch = {"image": io["image"], "text": io["text_ids"], "text_padding": io["text_padding"].bool()}
    with torch.set_grad_enabled(grad):
        images, texts = model(**batch)
        loss = model(**batch, mode="loss")["loss"]
    assert (images - io["image_features"]).abs().max() <= TOLERANCE
    assert (texts - io["text_features"]).abs().max() <= TOLERANCE
    assert (loss - io["loss"]).abs() <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "parameters"),
    [
        ("beit3_base_patch16_224", 222_167_041),
        ("beit3_base_patch16_384", 222_458_881),
        ("beit3_large_patch16_384", 675_188_737),
    ],
)
def test_parameter_counts_are_the_official_ones(backbone: str, parameters: int) -> None:
    with torch.device("meta"):
        model = DualEncoder(Multiway(backbones.resolve(backbone)))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_loss_is_cross_entropy_both_ways_at_the_learnt_temperature() -> None:
    torch.manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    scale = DualEncoder(small()).logit_scale.exp()
    assert scale.item() == pytest.approx(1 / 0.07)
    logits = images.double() @ texts.double().T / 0.07
    rows, columns = logits.log_softmax(1).diag(), logits.log_softmax(0).diag()
    expected = -(rows.mean() + columns.mean()) / 2
    assert contrastive_loss(images, texts, scale).item() == pytest.approx(expected.item(), rel=1e-5)


def test_records_are_features_of_length_one_images_first() -> None:
    model = DualEncoder(small()).eval()
    image, text = pair(3)
    with torch.inference_mode():
        images, texts = model(image, text)
        both = model(image[:2], text, mode="predict")
        alone = model(image=image, mode="predict"), model(text=text, mode="predict")
    assert images.norm(dim=-1).tolist() == pytest.approx([1.0] * 3)
    assert len(both) == 5
    for record, feature in zip(both, [*images[:2], *texts], strict=True):
        assert record["feature"].dtype.str == "<f4"
        assert record["feature"] == pytest.approx(feature.numpy(), abs=1e-6)
    for records, features in zip(alone, (images, texts), strict=True):
        assert [record["feature"].tolist() for record in records] == features.tolist()


def test_padding_does_not_move_a_text() -> None:
    model = DualEncoder(small()).eval()
    text = pair(2)[1]
    padded = torch.nn.functional.pad(text, (0, 6), value=1)
    with torch.no_grad():
        plain = model(text=text)[1]
        wide = model(text=padded, text_padding=torch.arange(padded.shape[1]).expand(2, -1) >= text.shape[1])[1]
    assert (plain - wide).abs().max() <= TOLERANCE


def test_heads_and_loss_stay_in_float32_under_mixed_precision() -> None:
    model = DualEncoder(small())
    image, text = pair(4)
    with torch.autocast("cpu", torch.bfloat16):
        images, texts = model(image, text)
        loss = model(image, text, mode="loss")["loss"]
    # Numbers that bfloat16 could hold would be their own roundings.
    assert (images != images.bfloat16().float()).float().mean() > 0.9
    expected = contrastive_loss(images, texts, model.logit_scale.exp())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("config", [None, SMALL_GIANT], ids=["decoupled", "giant"])
def test_all_gets_a_gradient_but_the_mask_token_and_experts_for_pairs(config: backbones.MultiwayConfig | None) -> None:
    model = DualEncoder(small(config) if config else small()).train()
    model(*pair(4), mode="loss")["loss"].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name.endswith("mask_token") or ".VL." in name), name
    assert math.isfinite(model.logit_scale.grad.item())


@pytest.mark.spawn
def test_two_processes_have_the_loss_and_the_gradients_of_one_with_the_joint_batch(tmp_path: Path) -> None:
    file = tmp_path / "two.pt"
    done = processes.run(joint_batch.__name__, file, processes=2)
    assert done.returncode == 0, done.stderr
    one, two = joint_batch.gradients(), torch.load(file, weights_only=True)
    losses = two.pop("losses")
    assert (losses - one["loss"]).abs().max() <= 1e-5
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        assert (gradient - two[name]).abs().max() <= 1e-5, name
    # The tolerance means something: gradients are far larger, and a half batch has another loss.
    assert max(gradient.abs().max() for gradient in one.values()) > 1e-2
    images, texts = pair(joint_batch.PAIRS)
    half = DualEncoder(small())(images[:4], texts[:4], mode="loss")["loss"]
    assert (half - one["loss"]).abs() > 0.1
