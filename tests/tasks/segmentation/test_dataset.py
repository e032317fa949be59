from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from backbones import InputError
from tasks.adapter import Sample
from tasks.segmentation.dataset import SegmentationEvalSet, SegmentationTrainSet, training_set

USUAL = {"crop": 32, "scale": (128, 32), "ratio_range": (0.5, 2.0), "cat_max_ratio": 0.75}


def sample(root: Path, image: np.ndarray, ids: np.ndarray, *, name: str = "one", classes: int = 3) -> Sample:
    paths = {kind: root / f"{name}-{kind}.png" for kind in ("image", "map")}
    for kind, pixels in (("image", image), ("map", ids)):
        Image.fromarray(pixels).save(paths[kind])
    return Sample(name, {kind: str(path) for kind, path in paths.items()}, {"classes": classes})


def two_halves(height: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Black is class 1 and white is class 2; of either a corner has no label."""
    ids = np.ones((height, width), np.uint8)
    ids[:, width // 2 :] = 2
    image = np.repeat(255 * (ids[..., None] == 2), 3, axis=2).astype(np.uint8)
    ids[: height // 4, : width // 4] = ids[-height // 4 :, -width // 4 :] = 0
    return image, ids


def seeded(items: SegmentationTrainSet, seed: int, index: int = 0) -> tuple[Tensor, Tensor]:
    """Image and labels under a seed of both generators."""
    random.seed(seed)
    np.random.seed(seed)
    item = items[index]
    return item["inputs"], item["data_samples"].gt_sem_seg.data


def test_labels_stay_on_their_pixels_through_every_change(tmp_path: Path) -> None:
    items = training_set([sample(tmp_path, *two_halves())], **USUAL)
    mirrored = set()
    for seed in range(30):
        image, labels = seeded(items, seed)
        assert (image.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert image.shape[0] == 3
        assert labels.shape == (1, *image.shape[1:])
        assert max(image.shape[1:]) <= 32
        assert set(labels.unique().tolist()) <= {0, 1, 255}
        # Colours change, but what is black stays darker than what is white; edges are blurred by the resizing.
        white = image.float().mean(0) > 90
        judged = labels[0] != 255
        assert (white == (labels[0] == 1))[judged].float().mean() > 0.9
        if {0, 1} <= set(labels.unique().tolist()):
            columns = [(labels[0] == number).nonzero()[:, 1].float().mean() for number in (0, 1)]
            mirrored.add(bool(columns[0] > columns[1]))
    assert mirrored == {False, True}


def test_small_images_stay_small_and_sizes_follow_the_ratios(tmp_path: Path) -> None:
    image, ids = two_halves(height=20, width=20)
    items = training_set([sample(tmp_path, image, ids)], **USUAL | {"crop": 1000})
    sides = [seeded(items, seed)[0].shape[1] for seed in range(60)]
    assert min(sides) < 20  # of 16 to 64
    assert max(sides) > 60
    assert all(16 <= side <= 64 for side in sides)


def test_the_item_is_a_function_of_the_generators(tmp_path: Path) -> None:
    items = training_set([sample(tmp_path, *two_halves())], **USUAL)
    first = seeded(items, 3)
    for tensor, again, other in zip(first, seeded(items, 3), seeded(items, 4), strict=True):
        assert torch.equal(tensor, again)
        assert tensor.shape != other.shape or not torch.equal(tensor, other)


def test_one_class_seldom_fills_a_crop(tmp_path: Path) -> None:
    ids = np.ones((40, 200), np.uint8)
    ids[:, :30] = 2
    one = sample(tmp_path, np.zeros((40, 200, 3), np.uint8), ids)

    def full(share: float) -> int:
        items = training_set([one], **USUAL | {"cat_max_ratio": share, "ratio_range": (1.0, 1.0)})
        return sum(len(seeded(items, seed)[1].unique()) == 1 for seed in range(40))

    assert full(0.75) < full(1.0) / 2


def test_the_pipeline_is_mmsegs_own(tmp_path: Path) -> None:
    """The same transforms from a config of MMSegmentation, with its loading from files, under the same seeds."""
    from mmengine.dataset import Compose
    from mmengine.registry import DefaultScope

    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 256, (50, 70, 1), dtype=np.uint8), 3, axis=2)  # BGR is RGB
    ids = np.kron(rng.integers(0, 4, (5, 7), dtype=np.uint8), np.ones((10, 10), np.uint8))
    one = sample(tmp_path, grey, ids)
    items = training_set([one], **USUAL)
    steps = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations"},
        {"type": "RandomResize", "scale": (128, 32), "ratio_range": (0.5, 2.0), "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": (32, 32), "cat_max_ratio": 0.75},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "PhotoMetricDistortion"},
        {"type": "PackSegInputs"},
    ]
    with DefaultScope.overwrite_default_scope("mmseg"):
        pipeline = Compose(steps)
    paths = {"img_path": one.inputs["image"], "seg_map_path": one.inputs["map"]}
    for seed in range(10):
        np.random.seed(seed)
        expected = pipeline({**paths, "reduce_zero_label": True, "seg_fields": []})
        np.random.seed(seed)
        found = items[0]
        assert torch.equal(found["inputs"], expected["inputs"])
        ours, theirs = found["data_samples"], expected["data_samples"]
        assert torch.equal(ours.gt_sem_seg.data, theirs.gt_sem_seg.data)
        for name in ("ori_shape", "img_shape", "scale_factor", "flip"):
            assert getattr(ours, name) == getattr(theirs, name), name


def test_whole_images_are_resized_in_their_shape_without_their_labels(tmp_path: Path) -> None:
    red = np.zeros((20, 26, 3), np.uint8)
    red[..., 0] = 200
    one = sample(tmp_path, red, np.ones((3, 3), np.uint8), name="red")
    Path(one.inputs["map"]).unlink()
    tall = sample(tmp_path, np.zeros((300, 20, 3), np.uint8), np.ones((1, 1), np.uint8), name="tall")
    items = SegmentationEvalSet([one, tall], scale=(64, 32), ratios=(1.0,), multiple=1)
    assert len(items) == 2
    item = items[0]
    (view,) = item["inputs"]
    assert view.shape == (3, 32, 42)  # × 1.6
    assert view.float().mean((1, 2)).tolist() == [200, 0, 0]  # RGB
    data = item["data_samples"]
    assert (data.sample_id, data.ori_shape, data.img_shape) == ("red", (20, 26), (32, 42))
    assert "gt_sem_seg" not in data
    assert items[1]["inputs"][0].shape == (3, 64, 4)  # the longer side decides
    batch = items.collate([items[0], items[1]])
    assert [[tensor.shape[1] for tensor in view] for view in batch["inputs"]] == [[32, 64]]
    assert [data.sample_id for data in batch["data_samples"]] == ["red", "tall"]


def test_each_view_is_made_of_the_files_pixels(tmp_path: Path) -> None:
    """A view in the file's own size has its very pixels, whatever the larger ones beside it."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    one = sample(tmp_path, pixels, np.ones((32, 48), np.uint8))
    items = SegmentationEvalSet([one], scale=(128, 64), ratios=(0.5, 0.75, 1.0), multiple=1)
    views = items[0]["inputs"]
    assert [tuple(view.shape[1:]) for view in views] == [(32, 48), (48, 72), (64, 96)]
    assert torch.equal(views[0], torch.from_numpy(pixels).permute(2, 0, 1))


def test_sides_are_resized_to_a_multiple(tmp_path: Path) -> None:
    one = sample(tmp_path, *two_halves(40, 53))
    (view,) = SegmentationEvalSet([one], scale=(256, 64), ratios=(1.0,), multiple=32)[0]["inputs"]
    assert view.shape == (3, 64, 96)  # of 64 × 85
    assert view[:, :, -1].eq(255).all()  # resized, not padded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda paths: paths["image"].unlink(), r"one-image.png is named in the annotations but absent"),
        (lambda paths: paths["image"].write_bytes(b"text"), r"one-image.png is not an image that can be read"),
        (lambda paths: paths["map"].unlink(), r"one-map.png is absent"),
        (
            lambda paths: Image.new("L", (60, 41)).save(paths["map"]),
            r"one-map.png is 60 × 41 pixels, and image .*one-image.png is 60 × 40",
        ),
        (lambda paths: Image.new("L", (60, 40), 4).save(paths["map"]), r"one-map.png has the id 4, and there are 3"),
        (lambda paths: Image.new("RGB", (60, 40)).save(paths["map"]), r"one-map.png is in colours"),
        (lambda paths: Image.new("RGBA", (60, 40)).save(paths["map"]), r"one-map.png is in colours"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, change: object, message: str) -> None:
    one = sample(tmp_path, *two_halves())
    change({kind: Path(one.inputs[kind]) for kind in ("image", "map")})
    with pytest.raises(InputError, match=message):
        training_set([one], **USUAL)[0]
