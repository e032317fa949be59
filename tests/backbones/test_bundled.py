from __future__ import annotations

from pathlib import Path

import pytest
import torch

import backbones
from backbones import InputError, bundled, weights
from tasks.pretraining import bundle, tokenizer

MOST_BYTES = 25 * 2**20  # of all bundled weights together
STAGES = pytest.mark.parametrize("stage", bundle.STAGES)


@STAGES
def test_every_stage_of_the_nano_backbone_is_there_and_whole(stage: bundled.Stage) -> None:
    path = bundled.weights("multiway_nano", stage)
    assert weights.sha256(path) == bundled.SHA256[path.name]
    assert {tensor.dtype for tensor in weights.read(path).values()} == {torch.float16}


def test_the_files_are_small() -> None:
    assert sum((bundled.FOLDER / name).stat().st_size for name in bundled.SHA256) < MOST_BYTES


def test_the_image_tokenizer_has_the_codes_that_the_masked_stage_predicts() -> None:
    assert weights.sha256(bundled.TOKENIZER) == bundled.SHA256[bundled.TOKENIZER.name]
    found = tokenizer.read(bundled.TOKENIZER)
    masked = weights.read(bundled.weights("multiway_nano"))
    assert len(found.quantize.weight) == len(masked["mim_head.weight"]) == 256


def test_other_backbones_have_none() -> None:
    assert bundled.weights("beit3_base_patch16_224") is None


@STAGES
def test_outputs_are_those_of_the_machine_that_trained_it(stage: bundled.Stage) -> None:
    """Tokens of an image, a text and a pair; random weights, or those of the other stage, are far from them."""
    checks = weights.read(bundled.CHECKS)
    given = bundle.inputs()
    assert all(torch.equal(tensor, checks[name]) for name, tensor in given.items())
    found = bundle.outputs(bundled.weights("multiway_nano", stage), given)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, checks[f"{stage}.{name}"], rtol=1e-3, atol=1e-3)
    other = next(name for name in bundle.STAGES if name != stage)
    assert (found["image_tokens"] - checks[f"{other}.image_tokens"]).abs().max() > 0.1


def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = bundled.file_name("multiway_nano", "masked")
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    with pytest.raises(InputError, match=r"damaged.*Install the package again.*--weights none"):
        bundled.weights("multiway_nano")
    (tmp_path / name).write_bytes(b"cut")
    with pytest.raises(InputError, match="damaged"):
        bundled.weights("multiway_nano")


def test_the_files_are_made_of_what_the_stages_left(tmp_path: Path) -> None:
    trained = {}
    for number, stage in enumerate(bundle.STAGES):
        torch.manual_seed(number)
        path = tmp_path / "runs" / f"nano_{stage}" / bundle.FINAL
        trained[stage] = backbones.build(bundle.BACKBONE).state_dict()
        weights.save(trained[stage], path)
    codes = tmp_path / "runs" / "nano_tokenizer" / bundle.TOKENIZER
    codes.parent.mkdir()
    codes.write_bytes(b"codes")
    (tmp_path / "made").mkdir()
    *made, checks, copied = bundle.write(tmp_path / "runs", tmp_path / "made")
    assert copied.read_bytes() == b"codes"
    for path, state in zip(made, trained.values(), strict=True):
        assert all(torch.equal(tensor, state[name].half()) for name, tensor in weights.read(path).items())
    assert {name.partition(".")[0] for name in weights.read(checks)} == {
        "image", "text", "text_padding", "masked", "contrastive"
    }  # fmt: skip
