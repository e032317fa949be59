"""Class names retrieved by two encoders."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import backbones
import harness
import tasks
from backbones import UsageError
from backbones.tokenizer import Tokenizer
from tasks.classification import names
from tasks.classification.dual_encoder import NameClassifier
from tasks.classification.recipes import RECIPES
from tests.backbones.test_multiway import SMALL, small

WORDS = Tokenizer(backbones.bundled_tokenizer("multiway_nano"))


def test_a_synset_is_its_lemmas_and_another_folder_its_own_name() -> None:
    assert names.texts(["n01440764", "n04399382", "red_square"]) == [
        "tench, Tinca tinca",
        "teddy, teddy bear",
        "red square",
    ]


def build(classes: int = 4, prompts: int = 2, **options: object) -> NameClassifier:
    torch.manual_seed(0)
    ids = [[torch.randint(4, SMALL.vocab_size, (3 + prompt,)) for prompt in range(prompts)] for _ in range(classes)]
    return NameClassifier(small(SMALL), names=ids, **options)


def batch(model: NameClassifier, labels: list[int]) -> dict[str, torch.Tensor]:
    image = torch.randn(len(labels), 3, SMALL.image_size, SMALL.image_size)
    text = torch.stack([model._names[label][0] for label in labels])
    return {"image": image, "label": torch.tensor(labels), "text": text}


def test_an_image_is_told_from_each_class_of_its_step_once() -> None:
    """Labels 3, 1, 3: two classes, so chance is ln 2, though three texts are in the batch."""
    model = build(label_smoothing=0.1).eval()
    given = batch(model, [3, 1, 3])
    with torch.no_grad():
        found = model(**given, mode="loss")["loss"]
        images, texts = model.image_features(given["image"]), model.text_features(given["text"])
        logits = model.logit_scale.exp() * images @ texts[[1, 0]].T  # of classes 1 and 3
        expected = F.cross_entropy(logits, torch.tensor([1, 0, 1]), label_smoothing=0.1)
        halves = [
            model(**{name: value[part] for name, value in given.items()}, mode="outputs") for part in ([0], [1, 2])
        ]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.step_loss(halves), expected)


def test_a_class_is_the_mean_direction_of_its_prompts() -> None:
    model = build().eval()
    with torch.no_grad():
        found = model.encoded_names()
        one = torch.stack([model.text_features(prompt[None])[0] for prompt in model._names[2]])
    torch.testing.assert_close(found[2], F.normalize(one.mean(0), dim=0))
    with torch.no_grad():
        model.language_head.weight.mul_(-1)
    assert torch.equal(model.encoded_names(), found)  # once, as long as it predicts
    torch.testing.assert_close(model.train().eval().encoded_names(), -found)


def test_the_best_five_names_are_predicted() -> None:
    model = build(classes=7).eval()
    image = torch.randn(2, 3, SMALL.image_size, SMALL.image_size)
    with torch.inference_mode():
        similar = model.image_features(image) @ model.encoded_names().T
        records = model(image, mode="predict")
    assert [record["top"] for record in records] == similar.argsort(descending=True)[:, :5].tolist()


def test_mixed_images_have_no_name() -> None:
    with pytest.raises(UsageError, match="mixup=0 --set cutmix=0"):
        dataclasses.replace(RECIPES["nano_names"], mixup=0.8)
    with pytest.raises(UsageError, match=r"prompt has \{\}"):
        dataclasses.replace(RECIPES["nano_names"], prompt="a picture")


def test_the_paper_has_two_stages_of_names() -> None:
    first, second = RECIPES["giant_names_21k"], RECIPES["giant_names"]
    assert (first.image_size, first.epochs, first.batch_size, first.lr, first.layer_decay) == (
        224,
        50,
        16_384,
        5e-5,
        0.85,
    )
    assert (second.image_size, second.epochs, second.lr, second.layer_decay) == (336, 15, 3e-5, 0.95)


def test_a_vision_only_backbone_reads_no_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Recipe multiway_nano_imagenet_names needs a text encoder"):
        harness.run("imagenet", backbone="timm/test_vit", recipe="nano_names", data=tmp_path)


@pytest.mark.training
@pytest.mark.parametrize("recipe", ["nano", "nano_names"])
def test_both_forms_learn_and_score_alike(recipe: str, colours: Path, tmp_path: Path) -> None:
    """Pictures of one colour, from random weights, with a backbone that is told only the folders' names."""
    changes = ["image_size=16", "batch_size=8", "micro_batch=4", "epochs=14", "warmup_epochs=1", "lr=2e-3", "workers=0"]
    rows = harness.run(
        "imagenet", backbone="multiway_nano", weights="none", recipe=recipe, data=colours, out=tmp_path, changes=changes
    )
    found = {row.metric: row for row in rows}
    assert found["top1"].value > 90
    assert (found["top1"].weights, found["top1"].recipe) == ("none", tasks.get("imagenet").recipes[recipe].name)


def test_contrastive_weights_classify_without_training(colours: Path, tmp_path: Path) -> None:
    options = {"backbone": "multiway_nano", "recipe": "nano_names", "data": colours, "changes": ["epochs=0"]}
    rows = harness.run("imagenet", out=tmp_path, **options)
    assert rows[0].weights == "multiway_nano_contrastive.safetensors"
    assert rows[0].train_steps is None
