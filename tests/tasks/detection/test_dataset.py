from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as codes

from backbones import InputError
from tasks.adapter import Sample, TaskContext
from tasks.common.images import image_size, open_image
from tasks.detection.coco_detection import CocoDetection
from tasks.detection.dataset import DetectionEvalSet, DetectionTrainSet
from tasks.detection.recipes import RECIPES
from tests.support.instances import CATEGORIES, COLOURS, paint, rectangle

ADAPTER = CocoDetection()
RECIPE = dataclasses.replace(RECIPES["nano"], image_size=64, scale_jitter=(0.1, 2.0))
PLACES = {number: place for place, number in enumerate(CATEGORIES)}


def drawn(root: Path, width: int, height: int, objects: list[dict]) -> Sample:
    """A painted image with its annotation."""
    paint(root / "image.png", width, height, [item for item in objects if not item["iscrowd"]])
    inputs = {"image": "image.png", "width": width, "height": height}
    return Sample("17", inputs, {"width": width, "height": height, "objects": objects})


def train_item(sample: Sample, root: Path, seed: int, **changes: Any) -> dict[str, Any]:
    items = DetectionTrainSet([sample], root=root, recipe=dataclasses.replace(RECIPE, **changes), categories=CATEGORIES)
    random.seed(seed)
    np.random.seed(seed)
    return items[0]


def coloured(inputs: torch.Tensor, place: int) -> np.ndarray:
    """Mask of the pixels that have the colour of a category: bool [height, width]."""
    colour = list(COLOURS.values())[place].index(255)
    others = [channel for channel in range(3) if channel != colour]
    return (inputs[colour] > 127).numpy() & (inputs[others].amax(0) < 128).numpy()


def extent(where: np.ndarray) -> list[int]:
    """x1, y1, x2, y2 around what is true."""
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("as_code", [False, True])
@pytest.mark.parametrize("size", [(90, 60), (45, 100)])
def test_boxes_and_masks_lie_where_the_colour_is(tmp_path: Path, size: tuple[int, int], as_code: bool) -> None:
    """Over many draws of scale, window and mirroring, each object is found by its colour."""
    objects = [
        rectangle(1, 17, 7, (4, 5, 20, 12)),
        rectangle(2, 17, 3, (15, 30, 25, 20)),
        rectangle(3, 17, 90, (30, 10, 9, 9)),
    ]
    if as_code:
        for item in objects:
            x, y, w, h = item["bbox"]
            bitmap = np.zeros((size[1], size[0]), dtype=np.uint8, order="F")
            bitmap[y : y + h, x : x + w] = 1
            code = codes.encode(bitmap)
            item["segmentation"] = {"size": code["size"], "counts": code["counts"].decode()}
    sample = drawn(tmp_path, *size, objects)
    overlaps, mirrored, cut = [], 0, 0
    for seed in range(60):
        item = train_item(sample, tmp_path, seed)
        inputs, found = item["inputs"], item["data_samples"].gt_instances
        height, width = inputs.shape[1:]
        assert inputs.dtype == torch.uint8
        assert max(height, width) <= 64
        assert item["data_samples"].img_shape == (height, width)
        mirrored += item["data_samples"].flip
        assert found.bboxes.dtype == torch.float32
        assert len(found.bboxes) == len(found.labels) == len(found.masks)
        factor = item["data_samples"].scale_factor[0]
        for box, label, mask in zip(found.bboxes.tolist(), found.labels.tolist(), found.masks, strict=True):
            assert mask.shape == (height, width)
            assert 0 <= box[0] < box[2] <= width
            assert 0 <= box[1] < box[3] <= height
            if min(box[2] - box[0], box[3] - box[1]) < 4:
                continue  # a blurred sliver has no clear colour
            where = coloured(inputs, label)
            assert np.abs(np.subtract(box, extent(where))).max() <= 1.01, (seed, label)
            assert np.abs(np.subtract(extent(mask), extent(where))).max() <= 1.01, (seed, label)
            overlap = (mask.astype(bool) & where).sum() / (mask.astype(bool) | where).sum()
            overlaps.append(overlap)
            _, _, w, h = objects[label]["bbox"]
            cut += (box[2] - box[0]) * (box[3] - box[1]) < w * h * factor**2 - 20
    assert len(overlaps) > 60
    assert np.mean(overlaps) > 0.93
    assert 15 < mirrored < 45
    assert cut > 3


def test_windows_with_and_without_objects(tmp_path: Path) -> None:
    sample = drawn(tmp_path, 80, 60, [rectangle(1, 17, 7, (4, 5, 14, 12)), rectangle(2, 17, 3, (60, 40, 14, 12))])
    empty = []
    for seed in range(40):
        item = train_item(sample, tmp_path, seed, scale_jitter=(2.5, 3.0))
        labels = item["data_samples"].gt_instances.labels.tolist()
        shown = [place for place in range(2) if coloured(item["inputs"], place).any()]
        assert shown == labels, seed
        empty += [] if labels else [item]
    assert 5 < len(empty) < 35
    found = empty[0]["data_samples"].gt_instances
    assert found.bboxes.shape == (0, 4)
    assert (found.labels.dtype, found.bboxes.dtype) == (torch.int64, torch.float32)
    assert found.masks.masks.shape == (0, *empty[0]["inputs"].shape[1:])


def test_a_cut_box_is_that_of_what_is_left_of_its_mask(tmp_path: Path) -> None:
    """A triangle whose tip is cut off is narrower at the cut than its box was."""
    triangle = rectangle(1, 17, 7, (0, 10, 60, 40), segmentation=[[0, 10, 60, 30, 0, 50]])
    sample = drawn(tmp_path, 64, 128, [triangle])
    changed = 0
    for seed in range(30):
        item = train_item(sample, tmp_path, seed, scale_jitter=(2.0, 2.0))
        found = item["data_samples"].gt_instances
        for box, mask in zip(found.bboxes.tolist(), found.masks, strict=True):
            on_border = box[0] <= 0 or box[1] <= 0 or box[2] >= 64 or box[3] >= 64
            if on_border:
                assert box == extent(mask)
            changed += on_border and 3 < box[3] - box[1] < 30
    assert changed


def test_an_uncut_box_keeps_its_fractions(tmp_path: Path) -> None:
    sample = drawn(tmp_path, 64, 64, [rectangle(1, 17, 90, (10.25, 12.5, 20.5, 9.75))])
    item = train_item(sample, tmp_path, 0, scale_jitter=(1.0, 1.0))
    (box,) = item["data_samples"].gt_instances.bboxes.tolist()
    wanted = [10.25, 12.5, 30.75, 22.25]
    assert box == ([64 - 30.75, 12.5, 64 - 10.25, 22.25] if item["data_samples"].flip else wanted)


def test_what_cannot_be_learnt_is_left_out(tmp_path: Path) -> None:
    objects = [
        rectangle(1, 17, 3, (10, 10, 20, 20)),
        rectangle(2, 17, 7, (5, 5, 0, 10)),
        rectangle(3, 17, 7, (64, 5, 10, 10)),
        rectangle(4, 17, 7, (0, 0, 40, 40), iscrowd=1, segmentation={"size": [64, 64], "counts": [0, 4096]}),
        rectangle(5, 17, 7, (40, 40, 10, 10), segmentation=[[40, 40, 40, 40, 40, 40]]),
        rectangle(6, 17, 90, (50, 50, 30, 5)),
    ]
    item = train_item(drawn(tmp_path, 64, 64, objects), tmp_path, 0, scale_jitter=(1.0, 1.0))
    found, flip = item["data_samples"].gt_instances, item["data_samples"].flip
    assert found.labels.tolist() == [PLACES[3], PLACES[90]]
    clipped = [50, 50, 64, 55]
    assert found.bboxes[1].tolist() == ([0, 50, 14, 55] if flip else clipped)


def test_a_recipe_without_masks_needs_none(tmp_path: Path) -> None:
    objects = [rectangle(1, 17, 3, (10, 10, 20, 20))]
    del objects[0]["segmentation"]
    sample = drawn(tmp_path, 64, 64, objects)
    item = train_item(sample, tmp_path, 1, masks=False)
    assert "masks" not in item["data_samples"].gt_instances
    assert item["data_samples"].gt_instances.labels.tolist() == [PLACES[3]]
    with pytest.raises(InputError, match=r"boxes but no masks, .* --set masks=false"):
        ADAPTER.train_set([sample], TaskContext(root=tmp_path, recipe=RECIPE, labels=CATEGORIES))


@pytest.mark.parametrize("size", [(1, 1), (20_000, 40), (40, 20_000)])
def test_images_of_extreme_forms(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    sample = drawn(tmp_path, width, height, [rectangle(1, 17, 7, (0, 0, width, height))])
    for seed in range(6):
        item = train_item(sample, tmp_path, seed)
        assert min(item["inputs"].shape) >= 1
        assert max(item["inputs"].shape[1:]) <= 64
        # The object is the whole image, whose two sides shrink by different factors.
        (mask,) = item["data_samples"].gt_instances.masks
        assert mask.all()
    item = DetectionEvalSet([sample], root=tmp_path, recipe=RECIPE)[0]
    expected = [max(1, round(edge * 64 / max(size))) for edge in (height, width)]
    assert list(item["inputs"].shape[1:]) == expected
    assert item["data_samples"].ori_shape == (height, width)


def test_the_same_seed_gives_the_same_item(tmp_path: Path) -> None:
    sample = drawn(tmp_path, 90, 60, [rectangle(1, 17, 7, (4, 5, 20, 12))])
    one, same, other = (train_item(sample, tmp_path, seed) for seed in (4, 4, 5))
    assert torch.equal(one["inputs"], same["inputs"])
    assert one["inputs"].shape != other["inputs"].shape or not torch.equal(one["inputs"], other["inputs"])


def test_an_image_to_predict_is_resized_as_a_whole(tmp_path: Path) -> None:
    sample = drawn(tmp_path, 90, 61, [rectangle(1, 17, 7, (10, 5, 40, 30))])
    items = DetectionEvalSet([sample], root=tmp_path, recipe=RECIPE)
    item = items[0]
    assert item["inputs"].shape == (3, 43, 64)
    meta = item["data_samples"]
    assert (meta.img_id, meta.ori_shape, meta.img_shape, meta.flip) == ("17", (61, 90), (43, 64), False)
    # Boxes are brought back by these factors, width first.
    assert meta.scale_factor == (64 / 90, 43 / 61)
    box = np.multiply([10, 5, 50, 35], np.tile(meta.scale_factor, 2))
    assert np.abs(box - extent(coloured(item["inputs"], 0))).max() <= 1
    # Pillow's own resizing of the whole image, channels in the order red, green, blue.
    resized = Image.open(tmp_path / "image.png").resize((64, 43), Image.Resampling.BILINEAR)
    assert np.array_equal(item["inputs"].permute(1, 2, 0).numpy(), np.asarray(resized))
    larger = DetectionEvalSet([sample], root=tmp_path, recipe=dataclasses.replace(RECIPE, test_size=128))
    assert larger[0]["inputs"].shape == (3, 87, 128)


def test_views_of_several_sizes(tmp_path: Path) -> None:
    sample = drawn(tmp_path, 90, 60, [rectangle(1, 17, 7, (10, 5, 40, 30))])
    recipe = dataclasses.replace(RECIPE, test_scales=(48, 96), test_flip=True)
    items = DetectionEvalSet([sample, sample], root=tmp_path, recipe=recipe)
    item = items[0]
    assert [tuple(view.shape) for view in item["inputs"]] == [(3, 32, 48)] * 2 + [(3, 64, 96)] * 2
    assert [view.flip for view in item["data_samples"]] == [False, True, False, True]
    assert torch.equal(item["inputs"][1], item["inputs"][0].flip(2))
    batch = items.collate([items[0], items[1]])
    assert len(batch["inputs"]) == len(batch["data_samples"]) == 4
    assert [tuple(image.shape) for image in batch["inputs"][3]] == [(3, 64, 96)] * 2


def test_a_batch_has_images_of_several_sizes(tmp_path: Path) -> None:
    sample = drawn(tmp_path, 90, 60, [rectangle(1, 17, 7, (10, 5, 40, 30))])
    items = DetectionTrainSet([sample], root=tmp_path, recipe=RECIPE, categories=CATEGORIES)
    batch = items.collate([items[0], items[0]])
    assert [image.shape[0] for image in batch["inputs"]] == [3, 3]
    assert [type(one).__name__ for one in batch["data_samples"]] == ["DetDataSample"] * 2


def test_mmdets_preprocessor_takes_a_batch(tmp_path: Path) -> None:
    """Padded to a common size, masks too, and ready for the heads: plain tensors, nothing ignored."""
    from mmdet.models.data_preprocessors import DetDataPreprocessor
    from mmdet.models.utils import unpack_gt_instances

    sample = drawn(tmp_path, 90, 60, [rectangle(1, 17, 7, (10, 5, 40, 30))])
    items = DetectionTrainSet([sample], root=tmp_path, recipe=RECIPE, categories=CATEGORIES)
    preprocess = DetDataPreprocessor(mean=[0, 0, 0], std=[1, 1, 1], pad_mask=True, pad_size_divisor=64)
    batch = preprocess(items.collate([items[0], items[0]]), training=True)
    assert batch["inputs"].shape == (2, 3, 64, 64)
    instances, ignored, _ = unpack_gt_instances(batch["data_samples"])
    assert ignored == [None, None]
    for one in instances:
        assert isinstance(one.bboxes, torch.Tensor)
        assert one.masks.masks.shape[1:] == (64, 64)


def test_images_that_do_not_fit_the_annotations_are_told(tmp_path: Path) -> None:
    sample = drawn(tmp_path, 90, 60, [rectangle(1, 17, 7, (10, 5, 40, 30))])
    Image.new("RGB", (60, 90)).save(tmp_path / "image.png")
    options = {"root": tmp_path, "recipe": RECIPE}
    for dataset in (
        DetectionTrainSet([sample], categories=CATEGORIES, **options),
        DetectionEvalSet([sample], **options),
    ):
        with pytest.raises(InputError, match=r"image\.png has 90 × 60 pixels .* annotations say 60 × 90"):
            dataset[0]
    (tmp_path / "image.png").unlink()
    with pytest.raises(InputError, match=r"image\.png is named in the annotations but absent"):
        DetectionEvalSet([sample], root=tmp_path, recipe=RECIPE)[0]


def test_real_photographs(truth: Path) -> None:
    """Masks and boxes of the people's own drawing agree: COCO's boxes are those of its polygons."""
    source = truth / "multitask_coco" / "train2017"
    whole = json.loads((source / "instances.json").read_text())
    categories = {row["id"]: row["name"] for row in whole["categories"]}
    samples = []
    for image in whole["images"][:12]:
        objects = [row for row in whole["annotations"] if row["image_id"] == image["id"]]
        inputs = {"image": f"images/{image['file_name']}"}
        size = {name: image[name] for name in ("width", "height")}
        samples.append(Sample(str(image["id"]), inputs | size, size | {"objects": objects}))
    recipe = dataclasses.replace(RECIPE, image_size=320, scale_jitter=(0.8, 1.6))
    items = DetectionTrainSet(samples, root=source, recipe=recipe, categories=categories)
    np.random.seed(0)
    large = 0
    for index in range(len(samples)):
        found = items[index]["data_samples"].gt_instances
        for box, mask in zip(found.bboxes.tolist(), found.masks, strict=True):
            difference = np.subtract(extent(mask), box)
            assert difference[:2].min() > -1  # a tip of less than a pixel is in the box but not in the mask
            assert difference[2:].max() < 1
            if min(box[2] - box[0], box[3] - box[1]) > 16:
                assert np.abs(difference).max() < 2
                large += 1
    assert large > 25


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_their_file_says(tmp_path: Path, orientation: int) -> None:
    """The pixels lie in the file in eight ways; annotations are of the picture as it is looked at."""
    sample = drawn(tmp_path, 40, 24, [rectangle(1, 17, 7, (4, 5, 20, 12))])
    with Image.open(tmp_path / "image.png") as image:
        upright = image.convert("RGB")
    stored = {
        1: [], 2: ["FLIP_LEFT_RIGHT"], 3: ["ROTATE_180"], 4: ["FLIP_TOP_BOTTOM"], 5: ["TRANSPOSE"], 6: ["ROTATE_90"],
        7: ["TRANSVERSE"], 8: ["ROTATE_270"],
    }  # fmt: skip
    turned = upright
    for name in stored[orientation]:
        turned = turned.transpose(getattr(Image.Transpose, name))
    exif = Image.Exif()
    exif[274] = orientation
    turned.save(tmp_path / "image.png", exif=exif)
    recipe = dataclasses.replace(RECIPE, test_size=48)
    found = DetectionEvalSet([sample], root=tmp_path, recipe=recipe)[0]
    upright.save(tmp_path / "image.png")
    expected = DetectionEvalSet([sample], root=tmp_path, recipe=recipe)[0]
    assert torch.equal(found["inputs"], expected["inputs"])


def test_tasks_with_text_take_the_pixels_as_they_lie(tmp_path: Path) -> None:
    """As the official loaders do; the size known without decoding follows."""
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "photo.jpg", exif=exif)
    path = tmp_path / "photo.jpg"
    assert open_image(path).size == image_size(path) == (30, 20)
    assert open_image(path, upright=True).size == image_size(path, upright=True) == (20, 30)
