from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tasks
from backbones import InputError, weights
from backbones.multiway import Multiway
from tasks.adapter import TaskContext
from tasks.classification.model import ImageClassifier
from tasks.classification.recipes import RECIPES
from tests.backbones.test_multiway import SMALL, TOLERANCE, official_config, small

ADAPTER = tasks.get("imagenet")


BARE = dataclasses.replace(SMALL, final_norm=False)


def official_classifier(reference: Path, meta: dict, case: str, *, image_size: int) -> ImageClassifier:
    config = official_config(meta | {"image_size": image_size}, final_norm=False)
    model = ImageClassifier(Multiway(config), classes=meta["cases"][case]["num_classes"]).eval()
    report = weights.load(model, reference / f"{case}.weights.safetensors")
    assert report.ignored == report.fresh == ()
    return model


def test_logits_equal_the_official_classifier(reference: Path, reference_meta: dict) -> None:
    case = "image_classification"
    model = official_classifier(reference, reference_meta, case, image_size=reference_meta["image_size"])
    io = load_file(reference / f"{case}.io.safetensors")
    with torch.no_grad():
        assert (model(io["image"]) - io["logits"]).abs().max() <= TOLERANCE


def test_position_interpolation_equals_the_official_one(reference: Path, reference_meta: dict) -> None:
    case = "position_interpolation"
    size = reference_meta["cases"][case]["to_image_size"]
    model = official_classifier(reference, reference_meta, case, image_size=size)
    io = load_file(reference / f"{case}.io.safetensors")
    table = model.beit3.encoder.embed_positions["A"].weight
    with torch.no_grad():
        assert (table - io["embed_positions_vision"]).abs().max() <= TOLERANCE
        assert (model(io["image"]) - io["logits"]).abs().max() <= TOLERANCE
        # A backbone of the small size interpolates as it goes, to the same result.
        before = official_classifier(
            reference, reference_meta, case, image_size=reference_meta["cases"][case]["from_image_size"]
        )
        assert (before(io["image"]) - io["logits"]).abs().max() <= TOLERANCE


def test_released_classifier_checkpoints_load_completely(tmp_path: Path) -> None:
    source = ImageClassifier(small(BARE), classes=7)
    path = tmp_path / "beit3_in1k.pth"
    torch.save({"model": source.state_dict()}, path)
    report = weights.load(ImageClassifier(small(BARE, seed=3), classes=7), path)
    assert report.fresh == report.ignored == ()
    # Some releases may lack the language half, which this task never uses.
    vision_only = {k: v for k, v in source.state_dict().items() if ".B." not in k and "text_embed" not in k}
    torch.save({"model": vision_only}, path)
    report = weights.load(ImageClassifier(small(BARE, seed=3), classes=7), path)
    assert report.loaded == len(vision_only)
    assert all(".B." in name or "text_embed" in name for name in report.fresh)
    # A head of another size is refused when predicting, started afresh when fine-tuning.
    with pytest.raises(InputError, match=r"head.weight \(7x32 in the file, 9x32 in the model\)"):
        weights.load(ImageClassifier(small(BARE), classes=9), path)
    report = weights.load(ImageClassifier(small(BARE), classes=9), path, new_heads=True)
    assert set(report.ignored) == {"head.weight", "head.bias"}


def test_base_classifier_has_the_official_parameter_count() -> None:
    import backbones

    with torch.device("meta"):
        trunk = Multiway(backbones.resolve("beit3_base_patch16_224", final_norm=False))
        model = ImageClassifier(trunk, classes=1000)
    counts = [parameter.numel() for parameter in model.parameters()]
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    assert sum(counts) == 221_754_856
    assert round(sum(trained) / 1e6, 2) == 86.66  # the vision branch alone


def test_training_mixes_images_and_smooths_labels(colours: Path) -> None:
    recipe = RECIPES["base"]
    context = TaskContext(root=colours, recipe=recipe, labels=ADAPTER.labels(colours))
    model = ADAPTER.model(small(BARE), context)
    assert (model.mixup.mixup_alpha, model.mixup.cutmix_alpha, model.mixup.label_smoothing) == (0.8, 1.0, 0.1)
    plain = ADAPTER.model(small(BARE), dataclasses.replace(context, recipe=RECIPES["giant"]))
    assert plain.mixup is None
    image, label = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        loss = plain(image, label, mode="loss")["loss"]
        log_p = plain(image).log_softmax(-1)
    smoothed = 0.9 * log_p.gather(1, label[:, None]).squeeze(1) + 0.1 * log_p.mean(1)
    torch.testing.assert_close(loss, -smoothed.mean())
