"""One data set after another: a detector of boxes, as Objects365 leaves it, starts one of masks and other classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import harness
from backbones import InputError, weights
from harness.experiment import plan
from tests.support import instances

pytestmark = pytest.mark.usefixtures("few_draws")

SMALL = (
    "image_size=32", "batch_size=2", "micro_batch=2", "workers=0", "precision=fp32", "head_channels=16", "roi_batch=8",
    "window=2",
)  # fmt: skip
UNMOVED = ("epochs=1", "warmup_epochs=0", "lr=1e-12", "min_lr=0", "weight_decay=0")


def with_five_classes(root: Path) -> Path:
    """A set of boxes alone, with two classes more."""
    instances.folder(root)

    def change(whole: dict) -> None:
        whole["categories"] += [{"id": number, "name": str(number)} for number in (364, 365)]
        for row in whole.get("annotations", []):
            del row["segmentation"]

    for split in ("train", "val", "test-dev"):
        instances.edit(root, split, change)
    return root


@pytest.mark.training
def test_the_pyramid_the_proposals_and_the_boxes_go_on_and_classifiers_and_masks_start_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    first = with_five_classes(tmp_path / "objects365")
    options = {"backbone": "multiway_nano", "out": tmp_path / "runs"}
    boxes = plan("coco_detection", data=first, changes=[*SMALL, "masks=false"], seed=1, **options).build_model()
    for parameter in boxes.parameters():
        torch.nn.init.normal_(parameter, std=0.02)  # no tensor is what a fresh one is
    weights.save(boxes.state_dict(), tmp_path / "first.safetensors")
    second = instances.folder(tmp_path / "coco")
    rows = harness.run(
        "coco_detection", data=second, weights=tmp_path / "first.safetensors", changes=[*SMALL, *UNMOVED], **options
    )
    assert {row.weights for row in rows} == {"first.safetensors"}
    before = load_file(tmp_path / "first.safetensors")
    after = load_file(tmp_path / "runs/coco_detection/multiway_nano-seed0/checkpoints/final.safetensors")
    anew = {name for name in after if ".fc_cls." in name or ".mask_head." in name}
    assert len(anew) == 3 * 2 + 16
    assert before.keys() == after.keys() - {name for name in anew if ".mask_head." in name}
    for name, tensor in after.items():
        if name in anew:
            assert name not in before or tensor.shape != before[name].shape, name
        else:
            torch.testing.assert_close(tensor, before[name], atol=1e-6, rtol=0, msg=name)
    for part in ("net.backbone.", "net.rpn_head.rpn_conv.", "net.roi_head.bbox_head.2.fc_reg.", "beit3.encoder."):
        assert any(name.startswith(part) for name in after.keys() - anew), part
    told = capfd.readouterr().err
    heads = ", ".join(f"net.roi_head.bbox_head.{stage}.fc_cls" for stage in range(3))
    assert f"freshly initialised ({len(anew)}): {heads}, net.roi_head.mask_head\n" in told
    assert f"not used (6): {heads}\n" in told


@pytest.mark.slow
def test_predicting_needs_every_head(tmp_path: Path) -> None:
    """A detector of other classes is a start for a training, never a prediction."""
    first = with_five_classes(tmp_path / "objects365")
    options = {"backbone": "multiway_nano", "out": tmp_path / "runs", "changes": [*SMALL, "masks=false"]}
    boxes = plan("coco_detection", data=first, **options).build_model()
    weights.save(boxes.state_dict(), tmp_path / "first.safetensors")
    second = instances.folder(tmp_path / "coco")
    with pytest.raises(InputError, match=r"fc_cls\.weight \(6x64 in the file, 4x64 in the model\)"):
        harness.predict("coco_detection", data=second, weights=tmp_path / "first.safetensors", **options)
