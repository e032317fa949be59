from __future__ import annotations

import torch
from timm.models.vision_transformer import VisionTransformer

from tests.benchmarks import pretraining


def test_timms_loss_is_that_of_the_masked_patches() -> None:
    model = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=2, num_classes=pretraining.CODES, global_pool=""
    )
    masked = torch.tensor([[True, False, False, True]])
    batch = {"pixels": torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "masked_patches": masked}
    one, other = (torch.tensor([[1, code, code, 2]]) for code in (3, 4))
    assert pretraining.timm_loss(model, batch, one) == pretraining.timm_loss(model, batch, other)
    assert pretraining.timm_loss(model, batch, one) != pretraining.timm_loss(model, batch, one.flip(1))


def test_every_step_is_timed_beside_timms() -> None:
    report = pretraining.measure(backbone="multiway_nano", batch_size=4, rounds=1, asked="fp32")
    rows = {row["step"]: row for row in report.rows}
    assert rows.keys() == {"ours", "ours, with targets", "timm"}
    assert rows["timm"]["of timm's"] == 1
    assert bool(report.missed) == (rows["ours"]["of timm's"] < pretraining.TARGET)
