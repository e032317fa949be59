from __future__ import annotations

import numpy as np
import torch
from pycocotools import mask as coco_mask

from backbones import openmmlab
from tasks.detection.mask_pasting import maskness, run_lengths

SIZE = (60, 80)
BOXES = torch.tensor(
    [
        [10.2, 5.7, 50.1, 40.9],
        [-5.0, -3.0, 20.0, 30.0],
        [70.0, 50.0, 95.0, 75.0],
        [30.4, 30.6, 31.0, 31.2],
        [0, 0, 80, 60],
    ]
)


def test_equal_those_that_mmdetection_pastes() -> None:
    from mmengine.config import ConfigDict

    logits = torch.nn.functional.interpolate(torch.randn(5, 1, 4, 4) * 4, size=28, mode="bicubic")
    config = {"type": "FCNMaskHead", "num_convs": 0, "in_channels": 4, "num_classes": 1, "class_agnostic": True}
    head = openmmlab.build(config, package="mmdet")
    meta = {"scale_factor": (1.0, 1.0), "ori_shape": SIZE}
    expected = head._predict_by_feat_single(
        logits, BOXES.clone(), torch.zeros(5, dtype=torch.long), meta, ConfigDict(mask_thr_binary=0.5), rescale=False
    )
    found = run_lengths(logits[:, 0].sigmoid(), BOXES, SIZE)
    assert all(mask["size"] == [60, 80] and isinstance(mask["counts"], str) for mask in found)
    assert np.array_equal(np.stack([coco_mask.decode(mask) for mask in found]), expected.numpy())
    assert expected[0].any()


def test_maskness_is_the_mean_probability_inside() -> None:
    masks = torch.tensor([[[0.9, 0.7], [0.4, 0.1]], [[0.5, 0.2], [0.0, 0.3]]])
    torch.testing.assert_close(maskness(masks), torch.tensor([0.8, 0.0]))


def test_a_box_outside_the_image_or_of_no_size_has_an_empty_mask() -> None:
    boxes = torch.tensor([[200.0, 200.0, 210.0, 220.0], [-30.0, -30.0, -10.0, -10.0]])
    found = run_lengths(torch.ones(2, 28, 28), boxes, SIZE)
    assert [int(coco_mask.area(mask)) for mask in found] == [0, 0]
    run_lengths(torch.ones(1, 28, 28), torch.tensor([[5.0, 5.0, 5.0, 5.0]]), SIZE)
