from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import backbones
from backbones import weights
from backbones.config import CONFIGS
from backbones.errors import InputError, UsageError
from backbones.noise import Share, sharing
from tasks.pretraining import clusters, tokenizer
from tasks.pretraining.clusters import ClusterRecipe, ClusterTarget
from tasks.pretraining.codebook import Codebook
from tasks.pretraining.distillation import Distillation, DistillationRecipe
from tasks.pretraining.model import MaskedDataModel
from tasks.pretraining.teacher import Teacher, read_teacher
from tasks.pretraining.tokenizer import ImageTokenizer, TokenizerTarget, encoder_config
from tests.backbones.test_multiway import SMALL, small
from tests.tasks.pretraining.test_model import batch

NANO = "multiway_nano"
RECIPE = DistillationRecipe(
    name="test", source="test", image_size=32, batch_size=4, lr=1e-3, steps=10, codes=12, code_dim=4, drop_path=0.0,
    decoder_layers=1, encoder_layers=2,
)  # fmt: skip


@pytest.fixture(autouse=True)
def patches_of_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have small images with several patches."""
    monkeypatch.setitem(CONFIGS, NANO, dataclasses.replace(CONFIGS[NANO], patch_size=8))


def pixels(count: int = 4, side: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def teacher(grid: int = 2) -> Teacher:
    torch.manual_seed(1)
    return Teacher(backbones.build(NANO, image_size=8 * grid), grid=grid, dual_encoder=True)


def distillation(**changes: object) -> Distillation:
    torch.manual_seed(2)
    recipe = dataclasses.replace(RECIPE, **changes)
    return Distillation(recipe, NANO, teacher(recipe.image_size // 8))


def sha256(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def test_the_encoder_is_a_plain_transformer_without_text() -> None:
    config = encoder_config(NANO, image_size=96, layers=2)
    assert (config.dim, config.layers, config.patch_size, config.grid) == (128, 2, 8, 12)
    assert (config.attention, config.experts, config.sub_ln, config.vl_layers) == ("shared", "standard", False, 0)
    trained = [name for name, p in ImageTokenizer(config, Codebook(3, 2)).named_parameters() if p.requires_grad]
    assert not any("text" in name or "mask_token" in name or ".B." in name for name in trained)


def test_the_loss_is_one_less_cosine_and_the_commitment() -> None:
    made = distillation(commitment=0.7).train()
    made(pixels())  # the codebook begins
    made.figures()
    before = made.quantize.weight.clone()
    loss = made(pixels(seed=1))["loss"]
    found = made.figures()
    made.quantize.weight.copy_(before)
    made.eval()
    quantised = made.tokenizer(pixels(seed=1))
    predicted, features = made.decoder(quantised.vectors), made.teacher(pixels(seed=1))
    lengths = predicted.norm(dim=-1) * features.norm(dim=-1)
    reconstruction = (1 - (predicted * features).sum(-1) / lengths).mean()
    assert found["reconstruction_loss"] == pytest.approx(reconstruction.item(), abs=1e-5)
    assert found["commitment_loss"] == pytest.approx(quantised.commitment.item(), abs=1e-5)
    assert loss.item() == pytest.approx((reconstruction + 0.7 * quantised.commitment).item(), abs=1e-5)
    assert {"code_usage", "code_perplexity"} <= found.keys()


def test_the_teacher_is_not_trained_and_not_saved() -> None:
    made = distillation().train()
    assert not made.teacher.training
    before = sha256(made.teacher.state_dict())
    optimizer = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=1.0)
    made(pixels())["loss"].backward()
    optimizer.step()
    assert sha256(made.teacher.state_dict()) == before
    assert {name.split(".")[0] for name in made.state_dict()} == {"beit3", "encode_task_layer", "quantize", "decoder"}


def test_every_trained_part_gets_a_gradient() -> None:
    made = distillation().train()
    made(pixels())["loss"].backward()
    silent = [name for name, p in made.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []
    assert made.beit3.vision_embed.proj.weight.grad.abs().max() > 0  # through the codes


@pytest.mark.training
def test_distillation_tells_colours_apart() -> None:
    made = distillation(codes=6, codebook_decay=0.9).train()
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], dtype=torch.uint8)
    images = colours[:, :, None, None].expand(-1, -1, 32, 32).contiguous()
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=3e-3)
    for step in range(120):
        optimizer.zero_grad()
        with sharing(Share(seed=(0, step), first=0, count=4, batch=4)):
            made(images)["loss"].backward()
        optimizer.step()
    made.figures()
    made(images)
    assert made.figures()["reconstruction_loss"] < 0.2  # 1 at first; two of four alike leave 0.12
    codes = made.eval().tokenizer(images).codes
    assert len({tuple(row) for row in codes.tolist()}) >= 3


def test_a_tokenizer_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = distillation().train()
    made(pixels())
    tokenizer.save(made.tokenizer, tmp_path / "tokenizer.safetensors", facts={"seed": 3})
    found = tokenizer.read(tmp_path / "tokenizer.safetensors")
    assert torch.equal(found(pixels()).codes, made.eval().tokenizer(pixels()).codes)
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert not any(name.startswith("decoder") for name in weights.read(tmp_path / "tokenizer.safetensors"))


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    weights.save(small(SMALL).state_dict(), tmp_path / "backbone.safetensors")
    with pytest.raises(InputError, match="is not an image tokenizer"):
        tokenizer.read(tmp_path / "backbone.safetensors")
    made = distillation()
    made.quantize.started.fill_(True)
    tokenizer.save(made.tokenizer, tmp_path / "whole.safetensors", facts={})
    state = weights.read(tmp_path / "whole.safetensors")
    for change, message in (
        ({"quantize.weight": None}, "no codebook"),
        ({"encode_task_layer.0.bias": None}, "1 tensors are missing"),
        ({"encode_task_layer.2.weight": torch.zeros(5, 128)}, "another shape"),
    ):
        changed = {name: tensor for name, tensor in {**state, **change}.items() if tensor is not None}
        metadata = weights.metadata(tmp_path / "whole.safetensors")
        weights.save(changed, tmp_path / "part.safetensors", metadata=metadata)
        with pytest.raises(InputError, match=message):
            tokenizer.read(tmp_path / "part.safetensors")


def test_another_number_of_codes_than_the_weights_predict_is_refused() -> None:
    target = TokenizerTarget(distillation().tokenizer)
    files = {"path": Path("t.safetensors"), "weights_file": Path("w.pth")}
    for state in ({}, {"mim_head.weight": torch.zeros(12, 4)}):
        tokenizer.require_codes(target, state=state, **files)
    with pytest.raises(UsageError, match=r"12 codes, and w\.pth predicts 8,192.*--set new_image_head=true"):
        tokenizer.require_codes(target, state={"mim_head.weight": torch.zeros(8192, 4)}, **files)


def test_masked_data_modelling_leaves_the_codebook_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "patch16", dataclasses.replace(CONFIGS[NANO], patch_size=16))
    made = Distillation(dataclasses.replace(RECIPE, image_size=64), "patch16", teacher(grid=4)).train()
    made(pixels(side=64), view=pixels(side=32))
    target = TokenizerTarget(made.tokenizer)
    before = sha256(target.state_dict())
    model = MaskedDataModel(small(SMALL), target).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    views = {kind: fields for kind, fields in batch().items() if kind != "texts"}
    for fields in views.values():
        fields["view"] = F.interpolate(fields["pixels"].float(), size=64).to(torch.uint8)
    assert target.view_size(4) == 64  # four patches of 16 pixels a side, for a backbone with patches of 8
    for _ in range(3):
        model(**views, mode="loss")["loss"].backward()
        optimizer.step()
    assert sha256(target.state_dict()) == before


def test_a_dual_encoder_teaches_through_its_image_head(tmp_path: Path) -> None:
    made = teacher(grid=4)
    state = {
        **made.state_dict(),
        "language_head.weight": torch.zeros(128, 128),
        "logit_scale": torch.zeros(()),
    }
    weights.save(state, tmp_path / "dual.safetensors")
    found = read_teacher(NANO, tmp_path / "dual.safetensors", grid=4)
    images = pixels(side=32)
    features = found(images)
    assert features.shape == (4, 16, 128)
    tokens = made.beit3(image=images.float() / 127.5 - 1).tokens[:, 1:]
    assert torch.allclose(features, tokens @ state["vision_head.weight"].T, atol=1e-4)


def test_a_backbone_alone_teaches_its_last_tokens(tmp_path: Path) -> None:
    backbone = backbones.build(NANO, image_size=32)
    weights.save(backbone.state_dict(), tmp_path / "backbone.safetensors")
    found = read_teacher(NANO, tmp_path / "backbone.safetensors", grid=4)
    images = pixels(side=32)
    assert torch.allclose(found(images), backbone(image=images.float() / 127.5 - 1).tokens[:, 1:], atol=1e-4)


def test_a_timm_model_teaches_in_its_own_normalisation(tmp_path: Path) -> None:
    name = "timm/test_vit"
    backbone = backbones.build(name, image_size=64).eval()
    weights.save(backbone.state_dict(), tmp_path / "timm.safetensors")
    found = read_teacher(name, tmp_path / "timm.safetensors", grid=4)
    assert found.view_size(4) == 64
    images = pixels(side=64)
    shift, scale = (torch.tensor(v).view(3, 1, 1) for v in (backbone.pixel_mean, backbone.pixel_std))
    expected = backbone(image=(images.float() / 255 - shift) / scale).tokens[:, backbone.prefix_tokens :]
    assert torch.allclose(found(images), expected, atol=1e-4)


def test_clusters_of_features_are_codes(tmp_path: Path) -> None:
    taught, images = teacher(), pixels(64, side=16)
    features = taught(images).flatten(0, 1)
    recipe = ClusterRecipe(name="test", source="test", image_size=32, batch_size=1, lr=1.0, codes=10)
    made = clusters.fit(taught, features, recipe, seed=3)
    assert made.outputs == 10
    directions = F.normalize(features, dim=1)
    assert torch.equal(made(images).flatten(), (directions @ made.centres.T).argmax(1))
    assert len(made(images).unique()) == 10
    clusters.save(made, tmp_path / "clusters.safetensors", backbone=NANO)
    found = clusters.read(tmp_path / "clusters.safetensors")
    assert isinstance(found, ClusterTarget)
    assert torch.equal(found(images), made(images))
    with pytest.raises(UsageError, match="8 patches cannot make 10 clusters"):
        clusters.fit(taught, features[:8], recipe, seed=3)
    weights.save(taught.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no clusters"):
        clusters.read(tmp_path / "other.safetensors")
