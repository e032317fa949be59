from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import tasks
from tasks.adapter import TaskContext
from tasks.classification.recipes import RECIPES

ADAPTER = tasks.get("imagenet")


def test_evaluation_takes_imagenet_statistics_and_the_centre(tmp_path: Path) -> None:
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, 16:48] = 255  # the middle square
    (tmp_path / "val" / "a").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "val" / "a" / "0.png")
    samples = ADAPTER.samples(tmp_path, "val")
    image = ADAPTER.eval_set(samples, TaskContext(root=tmp_path, recipe=RECIPES["nano"]))[0]["image"]
    assert image.shape == (3, 80, 80)
    white = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(image[:, 32, 32], white, atol=1e-4, rtol=0)
    torch.testing.assert_close(image[:, 32, 4], white, atol=1e-4, rtol=0)  # only the square is left
