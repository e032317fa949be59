from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from backbones import weights
from backbones.multiway import Multiway
from backbones.tokenizer import BOS, EOS, PAD
from tasks.models.beam_search import BeamSearch
from tasks.models.captioner import Captioner, CaptioningLoss
from tests.backbones.test_multiway import TOLERANCE, official_config

CASE = "captioning"


def official(reference: Path, meta: dict, **search: float) -> Captioner:
    case = meta["cases"][CASE]
    model = Captioner(
        Multiway(official_config(meta)),
        mask=case["mask_id"],
        detokenize=str,
        loss=CaptioningLoss(
            smoothing=case["label_smoothing"],
            drop_worst=case["drop_worst_ratio"],
            drop_worst_after=case["drop_worst_after"],
        ),
        search=BeamSearch(**search),
    ).eval()
    report = weights.load(model, reference / f"{CASE}.weights.safetensors")
    assert report.ignored == report.fresh == ()
    return model


def words(ids: torch.Tensor, mask: int) -> list[int]:
    return [token for token in ids.tolist() if token not in (BOS, PAD, EOS, mask)]


def test_logits_and_losses_equal_the_official_ones(reference: Path, reference_meta: dict) -> None:
    model = official(reference, reference_meta)
    io = load_file(reference / f"{CASE}.io.safetensors")
    inputs = {
        "image": io["image"],
        "text": io["masked_text_ids"],
        "text_padding": io["text_padding"],
        "masked": io["masked_positions"],
    }
    with torch.no_grad():
        assert (model(**inputs) - io["logits_at_masked"]).abs().max() <= TOLERANCE
        for step in (0, 12_001):
            model.step = step
            loss = model(**inputs, target=io["text_ids"], mode="loss")["loss"]
            assert abs(loss - io[f"loss_step_{step}"]) <= TOLERANCE
    assert abs(io["loss_step_0"] - io["loss_step_12001"]) > 0.01  # dropping the worst shows


@pytest.mark.parametrize("beams", ["beam3", "beam1", "beam5"])
def test_captions_equal_the_official_ones(reference: Path, reference_meta: dict, beams: str) -> None:
    case = reference_meta["cases"][CASE]
    setting = case["beams"][beams]
    model = official(
        reference,
        reference_meta,
        beams=setting["num_beams"],
        length_penalty=setting["length_penalty"],
        max_length=setting["max_len"],
    )
    io = load_file(reference / f"{CASE}.io.safetensors")
    with torch.inference_mode():
        ours = model.decode(io["decode_image"])
    assert ours.shape == io[f"decoded_{beams}"].shape
    for mine, theirs in zip(ours, io[f"decoded_{beams}"], strict=True):
        assert words(mine, case["mask_id"]) == words(theirs, case["mask_id"])
        assert mine[0] == BOS
        assert (mine == EOS).sum() == 1
