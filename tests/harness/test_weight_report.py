"""Weights of another image size than the recipe's: a prediction takes them when it was told to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import harness
from backbones import InputError
from backbones.config import CONFIGS
from harness.experiment import plan
from harness.predictions import read
from tests.support.questions import colour_questions

SMALL = ("micro_batch=4", "workers=0", "precision=fp32")


@pytest.fixture
def of_32_pixels(colours: Path, tmp_path: Path) -> Path:
    """Weights of backbone and head; the recipe's images have 64."""
    experiment = plan("imagenet", backbone="multiway_nano", data=colours, changes=["image_size=32"])
    torch.save({"model": experiment.build_model().state_dict()}, tmp_path / "tuned.pth")
    return tmp_path / "tuned.pth"


@pytest.mark.slow
def test_a_prediction_resizes_no_positions_unasked(
    colours: Path, of_32_pixels: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    options = {"backbone": "multiway_nano", "data": colours, "weights": of_32_pixels, "out": tmp_path}
    ways = r"images of 32 px, .* predicts at 80 px.*--set image_size=32; or --set image_size=80 asks"
    with pytest.raises(InputError, match=ways):
        harness.predict("imagenet", **options, changes=SMALL)
    with pytest.raises(InputError, match=ways):
        harness.run("imagenet", **options, changes=[*SMALL, "epochs=0", "warmup_epochs=0"])
    capfd.readouterr()
    # The refused call leaves the folder to the next one.
    harness.predict("imagenet", **options, changes=[*SMALL, "image_size=32"])
    told = capfd.readouterr().err
    assert "tuned.pth: " in told
    assert "resized" not in told
    harness.predict("imagenet", **options, changes=[*SMALL, "image_size=64"], name="by hand")
    assert "resized from 32 to 64 px (1): beit3.encoder.embed_positions.A\n" in capfd.readouterr().err


@pytest.mark.slow
def test_the_released_vqa_weights_of_768_pixels_predict_at_768(
    spm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """By names alone, on a transformer of the same shape that is small elsewhere."""
    for size in (480, 768):
        name = f"beit3_large_patch16_{size}"
        tiny = replace(CONFIGS[name], dim=16, layers=2, heads=2, ffn_dim=16, vocab_size=2048)
        monkeypatch.setitem(CONFIGS, name, tiny)
    weights = tmp_path / "beit3_large_indomain_patch16_768_vgqaaug_vqa.pth"
    options = {"data": colour_questions(tmp_path / "coco"), "tokenizer": spm, "limit": 2}
    experiment = plan("vqav2", backbone="beit3_large_patch16_768", **options)
    model = experiment.build_model().eval()
    state = model.state_dict()
    assert len(state["beit3.encoder.embed_positions.A.weight"]) == 2307
    torch.save({"model": state}, weights)

    options |= {"weights": weights, "out": tmp_path, "changes": ["workers=0", "precision=fp32"]}
    path = harness.predict("vqav2", backbone="beit3_large_patch16_768", **options)
    told = capfd.readouterr().err
    assert "Recipe large_768" in told
    assert "resized" not in told
    records = list(read(path))
    items = experiment.adapter.eval_set(experiment.samples("rest_val"), experiment.context)
    batch = items.collate([items[0], items[1]])
    assert batch["image"].shape == (2, 3, 768, 768)
    with torch.inference_mode():
        expected = model(**batch, mode="predict")
    assert [(r["answer"], r["score"]) for r in records] == [
        (e["answer"], pytest.approx(e["score"], abs=1e-4)) for e in expected
    ]

    with pytest.raises(InputError, match=r"images of 768 px, and recipe beit3_large_indomain_vqav2 predicts at 480 px"):
        harness.predict("vqav2", backbone="beit3_large_patch16_480", **options)
