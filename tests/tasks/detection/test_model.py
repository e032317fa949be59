from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torchvision.ops import box_iou

import backbones
from backbones import openmmlab  # noqa: F401  before MMDetection is imported
from tasks.detection.cascade import STRIDES, cascade_mask_rcnn
from tasks.detection.coco_detection import CocoDetection
from tasks.detection.model import Detector
from tasks.detection.recipes import DetectionRecipe

CLASSES = [3, 7, 90]
RECIPE = DetectionRecipe(
    name="test", source="", image_size=128, batch_size=2, lr=1e-3, epochs=1, head_channels=32, roi_batch=32, window=3,
    global_blocks=2, score_threshold=0.25,
)  # fmt: skip

MMDET = dataclasses.replace(RECIPE, style="mmdet")


def build(recipe: DetectionRecipe = RECIPE) -> Detector:
    torch.manual_seed(1)
    options = CocoDetection().backbone_options(recipe, layers=6)
    model = Detector(
        backbones.build("multiway_nano", image_size=recipe.image_size, **options), classes=CLASSES, recipe=recipe
    )
    with torch.no_grad():  # scores and masks that differ from place to place
        for head in model.net.roi_head.bbox_head:
            head.fc_cls.weight.normal_(std=0.3)
            head.fc_reg.weight.normal_(std=0.1)
        for head in getattr(model.net.roi_head, "mask_head", []):
            head.conv_logits.weight.normal_(std=1.0)
    return model.eval()


def batch(*sizes: tuple[int, int], original: float = 0.5) -> dict:
    """Images of (height, width) pixels with two objects each, which the files hold at `original` times the size."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    rng = np.random.default_rng(0)
    inputs, samples = [], []
    for height, width in sizes:
        inputs.append(torch.from_numpy(rng.integers(0, 256, (3, height, width), np.uint8)))
        meta = {
            "img_shape": (height, width),
            "ori_shape": (round(height * original), round(width * original)),
            "scale_factor": (1 / original, 1 / original),
        }
        masks = np.zeros((2, height, width), np.uint8)
        masks[0, 8:50, 10:40] = masks[1, 30:90, 30:60] = 1
        objects = InstanceData(
            bboxes=torch.tensor([[10.0, 8, 40, 50], [30, 30, 60, 90]]),
            labels=torch.tensor([0, 2]),
            masks=BitmapMasks(masks, height, width),
        )
        samples.append(DetDataSample(metainfo=meta, gt_instances=objects))
    return {"inputs": inputs, "data_samples": samples}


def predict(model: Detector, data: dict) -> list[dict]:
    with torch.inference_mode():
        return model(**model.data_preprocessor(data), mode="predict")


def mmdetections_own(model: Detector) -> torch.nn.Module:
    """MMDetection's detector as a user's config would build it, with the same weights."""
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope

    config = cascade_mask_rcnn(128, classes=len(CLASSES), recipe=model.recipe)
    config.neck = config.backbone
    config.backbone = {
        "type": "Multiway", "name": "multiway_nano", "image_size": 128, "window": 3, "global_layers": (2, 5)
    }  # fmt: skip
    config.test_cfg.rcnn = {
        "score_thr": model.recipe.score_threshold,
        "nms": {"type": "nms", "iou_threshold": model.recipe.nms_iou},
        "max_per_img": model.recipe.detections,
        "mask_thr_binary": 0.5,
    }
    with DefaultScope.overwrite_default_scope("mmdet"):  # as the package's own tools have it
        detector = MODELS.build(config).eval()
    state = {f"backbone.beit3.{name}": tensor for name, tensor in model.beit3.state_dict().items()}
    state |= {
        name.replace("backbone.", "neck.", 1) if name.startswith("backbone.") else name: tensor
        for name, tensor in model.net.state_dict().items()
    }
    detector.load_state_dict(state)
    return detector


@pytest.mark.slow
def test_predictions_equal_mmdetections_own() -> None:
    model = build(MMDET)
    data = batch((128, 128), (128, 128))
    records = predict(model, data)
    theirs = mmdetections_own(model)
    view = model.data_preprocessor(batch((128, 128), (128, 128)))
    with torch.inference_mode():
        expected = theirs.predict(view["inputs"][0], view["data_samples"][0])
    for record, sample in zip(records, expected, strict=True):
        found = sample.pred_instances
        assert 3 < len(found) == len(record["scores"])
        np.testing.assert_allclose(corners(record), found.bboxes.numpy(), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(record["scores"], found.scores.numpy(), rtol=1e-4)
        assert record["labels"].tolist() == [CLASSES[label] for label in found.labels]
        masks = np.stack([coco_mask.decode(mask) for mask in record["masks"]])
        assert masks.shape == found.masks.shape == (len(found), 64, 64)
        assert (masks != found.masks.numpy()).mean() < 1e-3
        assert 0.05 < masks.mean() < 0.95


@pytest.mark.slow
def test_losses_equal_mmdetections_own() -> None:
    model = build(MMDET).train()
    theirs = mmdetections_own(model).train()
    losses = []
    for loss in (lambda data: model(**data, mode="loss"), lambda data: theirs.loss(**prepared(data))):
        torch.manual_seed(0)  # regions are drawn by lot
        np.random.seed(0)
        losses.append(loss(model.data_preprocessor(batch((128, 128), (128, 128)), True)))
    assert losses[0].keys() == losses[1].keys() >= {"loss_rpn_cls", "s0.loss_bbox", "s2.loss_mask"}
    for name, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][name], rtol=1e-4, atol=1e-5)


def prepared(data: dict) -> dict:
    return {"batch_inputs": data["inputs"], "batch_data_samples": data["data_samples"]}


@pytest.mark.slow
def test_padding_is_no_part_of_the_image() -> None:
    """Predictions of an image do not depend on the images beside it, and no box leaves the image."""
    model = build()
    alone = predict(model, batch((128, 96)))[0]
    beside = predict(model, batch((128, 96), (96, 128)))[0]
    np.testing.assert_allclose(alone["boxes"], beside["boxes"], atol=1e-3)
    assert alone["masks"][0]["size"] == [64, 48]
    assert len(alone["boxes"]) > 3
    assert (alone["boxes"][:, 0] + alone["boxes"][:, 2]).max() <= 48 + 1e-4


def views(*batches: dict) -> dict:
    return {name: [data[name] for data in batches] for name in batches[0]}


@pytest.mark.slow
def test_a_mirrored_view_is_brought_back() -> None:
    """The same pixels, said to be a mirrored view: all that is found lies on the other side."""
    model = build()
    plain = predict(model, batch((128, 96)))[0]
    data = batch((128, 96))
    for sample in data["data_samples"]:
        sample.set_metainfo({"flip": True})
    back = predict(model, data)[0]
    left, right = plain["boxes"][:, 0], plain["boxes"][:, 0] + plain["boxes"][:, 2]
    np.testing.assert_allclose(back["boxes"][:, 0], 48 - right, atol=1e-3)
    np.testing.assert_allclose(back["boxes"][:, 0] + back["boxes"][:, 2], 48 - left, atol=1e-3)
    np.testing.assert_allclose(back["boxes"][:, 1::2], plain["boxes"][:, 1::2], atol=1e-3)
    for ours, theirs in zip(back["masks"], plain["masks"], strict=True):
        differ = coco_mask.decode(ours) != coco_mask.decode(theirs)[:, ::-1]
        assert differ.mean() < 5e-3


@pytest.mark.slow
def test_views_are_merged() -> None:
    """Twice the same view changes nothing: suppression takes the second boxes away, masks are means."""
    model = build()
    once = predict(model, batch((128, 96)))[0]
    twice = predict(model, views(batch((128, 96)), batch((128, 96))))[0]
    np.testing.assert_array_equal(once["boxes"], twice["boxes"])
    assert once["masks"] == twice["masks"]
    # A view of half the size finds other boxes, in the same pixels of the original image.
    both = predict(model, views(batch((128, 96)), batch((64, 48), original=1.0)))[0]
    assert both["masks"][0]["size"] == [64, 48]
    assert not np.array_equal(both["scores"], once["scores"])
    assert (both["boxes"][:, :2] + both["boxes"][:, 2:] <= [48.001, 64.001]).all()


@pytest.mark.slow
def test_soft_nms_keeps_what_nms_removes() -> None:
    hard = predict(build(dataclasses.replace(RECIPE, detections=1000)), batch((128, 128)))[0]
    soft = predict(build(dataclasses.replace(RECIPE, soft_nms=True, detections=1000)), batch((128, 128)))[0]
    assert len(soft["scores"]) > len(hard["scores"])
    assert soft["scores"].max() == pytest.approx(hard["scores"].max(), rel=1e-5)


@pytest.mark.slow
def test_most_detections_may_be_counted_by_category() -> None:
    """The best of each category, which leaves COCO's AP as it is: COCOeval counts 100 of each."""
    soft = dataclasses.replace(RECIPE, soft_nms=True, score_threshold=0.0, soft_nms_floor=0.01)
    (every,) = predict(build(dataclasses.replace(soft, detections=100_000)), batch((128, 128)))
    assert every["scores"].min() >= 0.01
    (few,) = predict(build(dataclasses.replace(soft, detections=20, detections_per="category")), batch((128, 128)))
    for category in CLASSES:
        expected = every["scores"][every["labels"] == category]
        assert len(expected) > 20
        np.testing.assert_array_equal(few["scores"][few["labels"] == category], expected[:20])
    assert (np.diff(few["scores"]) <= 0).all()
    assert len(few["masks"]) == 60
    nothing = dataclasses.replace(RECIPE, score_threshold=0.999, detections_per="category")
    assert len(predict(build(nothing), batch((128, 128)))[0]["scores"]) == 0


@pytest.mark.slow
def test_maskness_weighs_scores_with_their_masks() -> None:
    (plain,) = predict(build(), batch((128, 128)))
    (weighed,) = predict(build(dataclasses.replace(RECIPE, maskness=True)), batch((128, 128)))
    found = [list(zip(each["boxes"].tolist(), each["labels"].tolist(), strict=True)) for each in (plain, weighed)]
    places = [found[0].index(each) for each in found[1]]
    assert sorted(places) == list(range(len(found[0])))
    ratios = weighed["scores"] / plain["scores"][places]
    # A mean of probabilities above one half, or 0 for a mask without pixels.
    assert all(ratio == 0 or 0.5 < ratio < 1 for ratio in ratios)
    assert len({round(float(ratio), 4) for ratio in ratios}) > 3
    assert (np.diff(weighed["scores"]) <= 0).all()
    assert weighed["masks"] == [plain["masks"][place] for place in places]


@pytest.mark.slow
def test_masks_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    (whole,) = predict(model, batch((128, 128)))
    monkeypatch.setattr("tasks.detection.model.MASKS_AT_ONCE", 7)
    (parts,) = predict(model, batch((128, 128)))
    assert len(whole["masks"]) > 7
    assert whole["masks"] == parts["masks"]


def test_objects_of_few_pixels_have_an_anchor() -> None:
    from mmdet.registry import TASK_UTILS
    from mmengine.structures import InstanceData

    rpn = build(dataclasses.replace(RECIPE, masks=False)).net.rpn_head
    anchors = torch.cat(rpn.prior_generator.grid_priors([(128 // stride,) * 2 for stride in STRIDES], device="cpu"))
    assigner = TASK_UTILS.build(cascade_mask_rcnn(128, classes=3, recipe=RECIPE).train_cfg.rpn.assigner)
    corner = torch.cartesian_prod(torch.arange(3), torch.arange(3)) * 40 + torch.rand(9, 2)  # far from each other
    for side in (4, 8, 12, 16):
        truth = InstanceData(bboxes=torch.cat([corner, corner + side], dim=1), labels=torch.zeros(9, dtype=torch.long))
        found = assigner.assign(InstanceData(priors=anchors), truth).gt_inds
        assert set(found[found > 0].tolist()) == set(range(1, 10))
    # An object outside all anchors does not take every one of them.
    outside = InstanceData(bboxes=torch.tensor([[900.0, 900, 905, 905]]), labels=torch.zeros(1, dtype=torch.long))
    assert not (assigner.assign(InstanceData(priors=anchors), outside).gt_inds > 0).any()


def test_boxes_alone() -> None:
    model = build(dataclasses.replace(RECIPE, masks=False))
    assert not any("mask" in name for name, _ in model.net.named_parameters())
    losses = model.train()(**model.data_preprocessor(batch((128, 128)), True), mode="loss")
    assert not any("mask" in name for name in losses)
    assert predict(model.eval(), batch((128, 128)))[0].keys() == {"boxes", "scores", "labels"}


def test_an_image_in_which_nothing_is_found_has_an_empty_record() -> None:
    record = predict(build(dataclasses.replace(RECIPE, score_threshold=0.999)), batch((128, 128)))[0]
    assert record["boxes"].shape == (0, 4)
    assert record["scores"].shape == record["labels"].shape == (0,)
    assert record["masks"] == []


def test_every_trained_parameter_learns() -> None:
    model = build().train()
    losses = model(**model.data_preprocessor(batch((128, 128), (128, 100)), True), mode="loss")
    model.parse_losses(losses)[0].backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_box_codes_are_vitdets() -> None:
    """detectron2's weights 10, 20 and 30 of places, half of them of extents, as standard deviations."""
    config = cascade_mask_rcnn(128, classes=3, recipe=RECIPE)
    found = [head.bbox_coder.target_stds for head in config.roi_head.bbox_head]
    assert found == [pytest.approx([1 / weight] * 2 + [2 / weight] * 2) for weight in (10, 20, 30)]


BFLOAT16 = partial(torch.autocast, "cpu", torch.bfloat16)


def test_mixed_precision_moves_no_anchor() -> None:
    """Heads that move nothing give back anchors, cut at the border of the image: the same with bfloat16 products."""
    model = build(dataclasses.replace(RECIPE, masks=False, score_threshold=0.0, detections=1000))
    model.net.rpn_head.test_cfg.max_per_img = 200
    with torch.no_grad():
        for layer in (model.net.rpn_head.rpn_reg, *[head.fc_reg for head in model.net.roi_head.bbox_head]):
            layer.weight.zero_()
            layer.bias.zero_()
    maps = [(128 // stride,) * 2 for stride in STRIDES]
    anchors = torch.cat(model.net.rpn_head.prior_generator.grid_priors(maps, device="cpu")).clamp(0, 128) / 2
    with BFLOAT16():
        (found,) = predict(model, batch((128, 128)))
    apart = torch.cdist(torch.from_numpy(corners(found)), anchors, p=float("inf")).min(dim=1).values
    assert len(apart) > 100
    assert apart.max() < 1e-3


@pytest.mark.slow
def test_heads_predict_in_float32() -> None:
    """The transformer alone computes in half precision: the rest is the same as if given its rounded maps."""
    model = build()
    with BFLOAT16():
        (mixed,) = predict(model, batch((128, 128)))
    maps = model._maps
    with BFLOAT16(), torch.inference_mode():
        rounded = maps(model.data_preprocessor(batch((128, 128)))["inputs"][0])
    assert rounded[0].abs().max() > 0
    model._maps = lambda images: rounded
    (expected,) = predict(model, batch((128, 128)))
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(mixed[name], expected[name])
    assert mixed["masks"] == expected["masks"]


@pytest.mark.slow
def test_mixed_precision_finds_the_same() -> None:
    model = build()
    (precise,) = predict(model, batch((128, 128)))
    with BFLOAT16():
        (mixed,) = predict(model, batch((128, 128)))
    best = 50  # behind them little changes what is among the hundred
    overlaps = box_iou(*[torch.from_numpy(corners(found)) for found in (precise, mixed)])[:best].numpy()
    overlaps[precise["labels"][:best, None] != mixed["labels"]] = 0
    pairs = [(one, other) for one, other in enumerate(overlaps.argmax(axis=1)) if overlaps[one, other] > 0.95]
    assert len(pairs) > 0.8 * best
    for one, other in pairs:
        assert mixed["scores"][other] == pytest.approx(precise["scores"][one], abs=0.05)
    masks = [(precise["masks"][one], mixed["masks"][other]) for one, other in pairs]
    large = [coco_mask.iou([one], [other], [0]).item() for one, other in masks if coco_mask.area(one) > 50]
    assert len(large) > 5
    assert np.mean(large) > 0.9


@pytest.mark.slow
def test_mixed_precision_has_the_same_losses() -> None:
    # All regions take part: which ones are drawn by lot depends on their order.
    model = build(dataclasses.replace(RECIPE, roi_batch=8000)).train()
    model.net.train_cfg.rpn_proposal.max_per_img = 100
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with BFLOAT16(enabled=enabled):
            every = model(**model.data_preprocessor(batch((128, 128), (128, 100)), True), mode="loss")
            total, each = model.parse_losses(every)
        model.zero_grad()
        total.backward()
        losses.append({name: value.item() for name, value in each.items() if "loss" in name})
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert losses[1] == pytest.approx(losses[0], rel=0.1, abs=0.01)


def corners(record: dict) -> np.ndarray:
    return np.concatenate([record["boxes"][:, :2], record["boxes"][:, :2] + record["boxes"][:, 2:]], axis=1)
