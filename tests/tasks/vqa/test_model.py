from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import backbones
from backbones import weights
from backbones.multiway import Multiway
from harness.optim import parameter_groups
from tasks.vqa.model import VisualQuestionAnswering
from tasks.vqa.recipes import RECIPES
from tasks.vqa.vqav2 import VQAv2
from tests.backbones.test_multiway import SMALL, TOLERANCE, official_config, small

CASE = "visual_question_answering"
BARE = dataclasses.replace(SMALL, final_norm=False)
EXPERTS = ("A", "B")
LAYER_TENSORS = (
    *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")), "self_attn.inner_attn_ln",
    "self_attn_layer_norm", "final_layer_norm",
)  # fmt: skip
FEED_FORWARD_TENSORS = ("fc1", "fc2", "ffn_layernorm")


def official_model(reference: Path, meta: dict) -> tuple[VisualQuestionAnswering, dict[str, torch.Tensor]]:
    answers = [f"answer {label}" for label in range(meta["cases"][CASE]["num_classes"])]
    final_norm = meta["cases"][CASE]["normalize_output"]
    model = VisualQuestionAnswering(Multiway(official_config(meta, final_norm=final_norm)), answers=answers)
    report = weights.load(model, reference / f"{CASE}.weights.safetensors")
    assert report.ignored == report.fresh == ()
    return model.eval(), load_file(reference / f"{CASE}.io.safetensors")


def test_logits_loss_and_soft_score_equal_the_official_ones(reference: Path, reference_meta: dict) -> None:
    model, io = official_model(reference, reference_meta)
    batch = {"image": io["image"], "text": io["text_ids"], "text_padding": io["text_padding"]}
    with torch.no_grad():
        assert (model(**batch) - io["logits"]).abs().max() <= TOLERANCE
        loss = model(**batch, target=io["labels"], mode="loss")["loss"]
        records = model(**batch, mode="predict")
    assert (loss - io["loss"]).abs() <= TOLERANCE
    best, labels = io["logits"].max(-1)
    assert [record["answer"] for record in records] == [model.answers[label] for label in labels]
    assert [record["score"] for record in records] == pytest.approx(best.sigmoid().tolist(), abs=TOLERANCE)
    assert soft_score(records, io["labels"], model.answers) == pytest.approx(io["score"].item(), abs=TOLERANCE)
    # The official figure of this case may be 0: the same of the batch's best answers is not.
    best_labels = io["labels"].argmax(-1)
    told = [{"answer": model.answers[label]} for label in best_labels]
    expected = io["labels"].gather(1, best_labels[:, None]).mean().item()
    assert soft_score(told, io["labels"], model.answers) == pytest.approx(expected, abs=TOLERANCE)
    assert expected > 0


def soft_score(records: list[dict], labels: torch.Tensor, answers: list[str]) -> float:
    """The adapter's figure over a batch, as a share."""
    from tasks.adapter import Sample

    samples = [
        Sample(
            str(row), {}, {"image": row, "targets": {answers[i]: worth[i].item() for i in worth.nonzero().flatten()}}
        )
        for row, worth in enumerate(labels)
    ]
    assert all(sample.annotation["targets"] for sample in samples), "every question of the case has an answer"
    measured = VQAv2().score({str(row): record for row, record in enumerate(records)}, samples)
    return next(m.value for m in measured if m.metric == "soft_score") / 100


@pytest.mark.parametrize(
    ("name", "size", "parameters"),
    [
        ("beit3_base_patch16_480", 480, 228_110_649),
        ("beit3_large_patch16_480", 480, 682_985_529),
        ("beit3_large_patch16_768", 768, 684_423_225),
    ],
)
def test_official_parameter_counts(name: str, size: int, parameters: int) -> None:
    with torch.device("meta"):
        trunk = Multiway(backbones.resolve(name, final_norm=False))
        model = VisualQuestionAnswering(trunk, answers=[""] * 3129)
    assert trunk.config.image_size == size
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def official_state(dim: int, ffn: int, layers: int, answers: int) -> dict[str, torch.Tensor]:
    """A released VQA checkpoint in small: names and shapes as the authors' files have them."""
    config = BARE
    patches = (config.image_size // config.patch_size) ** 2
    shapes: dict[str, tuple[int, ...]] = {
        "beit3.text_embed.weight": (config.vocab_size, dim),
        "beit3.vision_embed.mask_token": (1, 1, dim),
        "beit3.vision_embed.cls_token": (1, 1, dim),
        "beit3.vision_embed.proj.weight": (dim, 3, config.patch_size, config.patch_size),
        "beit3.vision_embed.proj.bias": (dim,),
        "beit3.encoder.embed_positions.A.weight": (patches + 3, dim),
        "beit3.encoder.embed_positions.B.weight": (config.max_text_positions, dim),
        "pooler.norm.weight": (dim,),
        "pooler.norm.bias": (dim,),
        "pooler.dense.weight": (dim, dim),
        "pooler.dense.bias": (dim,),
        "head.0.weight": (2 * dim, dim),
        "head.0.bias": (2 * dim,),
        "head.1.weight": (2 * dim,),
        "head.1.bias": (2 * dim,),
        "head.3.weight": (answers, 2 * dim),
        "head.3.bias": (answers,),
    }
    feed_forward = {"fc1": (ffn, dim), "fc2": (dim, ffn), "ffn_layernorm": (ffn,)}
    for layer in range(layers):
        for expert in EXPERTS:
            prefix = f"beit3.encoder.layers.{layer}."
            for name in LAYER_TENSORS:
                weight = (dim, dim) if name.endswith("_proj") else (dim,)
                shapes[f"{prefix}{name}.{expert}.weight"] = weight
                shapes[f"{prefix}{name}.{expert}.bias"] = (dim,)
            for name, weight in feed_forward.items():
                shapes[f"{prefix}ffn.{expert}.{name}.weight"] = weight
                shapes[f"{prefix}ffn.{expert}.{name}.bias"] = weight[:1]
    torch.manual_seed(0)
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def test_official_checkpoints_load_completely(tmp_path: Path) -> None:
    state = official_state(BARE.dim, BARE.ffn_dim, BARE.layers, 7)
    assert len([name for name in state if ".layers.0." in name]) == 40
    torch.save({"model": state}, tmp_path / "beit3_vqa.pth")
    model = VisualQuestionAnswering(small(BARE), answers="abcdefg")
    report = weights.load(model, tmp_path / "beit3_vqa.pth")
    assert report.fresh == report.ignored == ()
    assert report.loaded == len(state) == len(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert tensor.equal(state[name]), name


def test_fresh_heads_are_initialised_as_officially() -> None:
    torch.manual_seed(0)
    model = VisualQuestionAnswering(small(BARE), answers=[""] * 500)
    for linear in (model.pooler.dense, model.head[0], model.head[3]):
        assert linear.weight.abs().max() <= 0.02
        # A normal of std 0.02 cut at one std has a std of 0.54 times that.
        assert linear.weight.std().item() == pytest.approx(0.0108, rel=0.05)
        assert not linear.bias.any()
    for norm in (model.pooler.norm, model.head[1]):
        assert norm.weight.eq(1).all()
        assert not norm.bias.any()


def test_the_head_alone_learns_twenty_times_as_fast() -> None:
    model = VisualQuestionAnswering(small(BARE), answers="ab")
    scales = {name: group["lr_scale"] for group in parameter_groups(model, RECIPES["base"]) for name in group["names"]}
    assert {name for name, scale in scales.items() if scale == 20} == {
        f"head.{place}.{kind}" for place in (0, 1, 3) for kind in ("weight", "bias")
    }
    assert set(scales.values()) == {1.0, 20.0}


def test_padding_and_company_change_no_answer() -> None:
    model = VisualQuestionAnswering(small(BARE), answers=[""] * 5).eval()
    image, text = torch.randn(1, 3, 32, 32), torch.tensor([[0, 7, 8, 2]])
    padded = torch.tensor([[0, 7, 8, 2, 1, 1]])
    with torch.no_grad():
        alone = model(image, text, torch.zeros(1, 4, dtype=torch.bool))
        longer = model(image, padded, padded == 1)
        other = model(image, torch.tensor([[0, 9, 8, 2]]), torch.zeros(1, 4, dtype=torch.bool))
    torch.testing.assert_close(alone, longer, atol=1e-4, rtol=1e-4)
    assert (alone - other).abs().max() > 1e-3  # the question matters
