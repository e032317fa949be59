"""Against detectron2 itself: see tests/reference/detectron2/make.py, which made the figures."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from safetensors.torch import load_file
from torch import Tensor

from backbones import InputError, UsageError, resolve, weights
from backbones.windowed import WindowedMultiway
from harness.optim import parameter_groups
from tasks.common.images import IMAGENET_MEAN, IMAGENET_STD
from tasks.detection import detectron2_heads
from tasks.detection.coco_detection import CocoDetection
from tasks.detection.detectron2_heads import Matcher
from tasks.detection.detectron2_weights import translated
from tasks.detection.model import Detector
from tasks.detection.recipes import DetectionRecipe
from tests.reference.detectron2.make import PROPOSALS, SIDE, images, random_weights, truths

FOLDER = Path(__file__).parents[2] / "reference" / "detectron2"
KEYS = json.loads((FOLDER / "keys.json").read_text())
RECIPE = DetectionRecipe(
    name="test", source="", image_size=SIDE, batch_size=2, lr=1e-3, epochs=1, head_channels=16, window=3,
    pixel_mean=IMAGENET_MEAN, pixel_std=IMAGENET_STD, layer_decay=0.7, weight_decay=0.1, decays="detectron2",
)  # fmt: skip


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return load_file(FOLDER / "cascade.safetensors")


def small() -> Detector:
    config = resolve(
        "vit_base_patch16_224", image_size=SIDE, dim=32, layers=4, heads=2, ffn_dim=64, window=3, global_layers=(1, 3),
        final_norm=False,
    )  # fmt: skip
    model = Detector(WindowedMultiway(config), classes=[0, 1, 2], recipe=RECIPE)
    for proposals in (model.net.train_cfg.rpn_proposal, model.net.rpn_head.test_cfg):
        proposals.max_per_img = PROPOSALS
    return model


@pytest.fixture
def model(tmp_path: Path) -> Detector:
    """With the weights that detectron2's had, read as a released checkpoint is: from a pickle of arrays."""
    model = small()
    report = weights.load(model, released(tmp_path, random_weights(KEYS["small"])))
    assert not report.resized  # or prediction would refuse them
    return model


def released(folder: Path, state: dict[str, Tensor]) -> Path:
    path = folder / "model_final_435fa9.pkl"
    content = {"model": {name: tensor.numpy() for name, tensor in state.items()}, "__author__": "ViTDet"}
    path.write_bytes(pickle.dumps(content))
    return path


def batch() -> dict:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    samples = []
    for image, truth in zip(images(), truths(), strict=True):
        height, width = image.shape[1:]
        meta = {
            "img_shape": (height, width),
            "ori_shape": (height // 2, width // 2),
            "scale_factor": (2.0, 2.0),
        }
        instances = InstanceData(
            bboxes=truth["boxes"],
            labels=truth["labels"],
            masks=BitmapMasks(truth["masks"].numpy().astype(np.uint8), height, width),
        )
        samples.append(DetDataSample(metainfo=meta, gt_instances=instances))
    return {"inputs": images(), "data_samples": samples}


def test_predictions_are_detectron2s(model: Detector, expected: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        records = model.eval()(**model.data_preprocessor(batch()), mode="predict")
    for index, record in enumerate(records):
        own = {name: expected[f"{index}.{name}"].numpy() for name in ("boxes", "scores", "labels", "masks")}
        corners = record["boxes"].copy()
        corners[:, 2:] += corners[:, :2]
        assert len(record["scores"]) == len(own["scores"]) > 90
        np.testing.assert_allclose(record["scores"], own["scores"], atol=2e-5)
        np.testing.assert_allclose(corners, own["boxes"], atol=2e-3)
        np.testing.assert_array_equal(record["labels"], own["labels"])
        masks = np.stack([coco_mask.decode(mask) for mask in record["masks"]])[: len(own["masks"])]
        assert own["masks"].mean() > 0.03
        assert (masks != own["masks"]).mean() < 1e-5


def test_losses_and_gradients_are_detectron2s(
    model: Detector, expected: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing by lot, as in the reference: the first of each kind.
    monkeypatch.setattr(torch, "randperm", lambda count, **options: torch.arange(count))
    losses = model.train()(**model.data_preprocessor(batch(), True), mode="loss")
    total, each = model.parse_losses(losses)
    names = {"loss_rpn_cls": "loss_rpn_cls", "loss_rpn_bbox": "loss_rpn_loc", "s0.loss_mask": "loss_mask"}
    for stage in range(3):
        names |= {f"s{stage}.loss_cls": f"loss_cls_stage{stage}", f"s{stage}.loss_bbox": f"loss_box_reg_stage{stage}"}
    assert {name for name in each if "loss" in name} == {*names, "loss"}
    for ours, theirs in names.items():
        torch.testing.assert_close(each[ours], expected[f"loss.{theirs}"], rtol=1e-5, atol=1e-6)
    total.backward()
    parameters = dict(model.named_parameters())
    gradients = {name.removeprefix("gradient."): t for name, t in expected.items() if name.startswith("gradient.")}
    for name, gradient in gradients.items():
        if name.endswith("qkv.bias"):
            found = torch.cat([parameters[own].grad for own in translated({name: gradient}, grid=8)])
        else:
            (own,) = translated({name: gradient}, grid=8)
            found = parameters[own].grad
        # A rounded value may lie on the other side of a ReLU's kink, which moves some gradients a little.
        assert (found - gradient).norm() < 5e-3 * gradient.norm(), name
    assert len(gradients) == 10


def test_parameters_learn_and_decay_as_in_detectron2() -> None:
    """The same learning-rate factor and weight decay for each parameter, detectron2's own quirks included."""
    found = {
        name: (group["lr_scale"], group["weight_decay"])
        for group in parameter_groups(small(), RECIPE)
        for name in group["names"]
    }
    theirs = {}
    for name, (rate, decay) in KEYS["small_groups"].items():
        shape = KEYS["small"][name]
        theirs |= {own: pytest.approx((rate, decay)) for own in translated({name: torch.zeros(shape)}, grid=8)}
    assert found == theirs


@pytest.mark.slow
@pytest.mark.parametrize(("size", "backbone"), [("b", "vit_base_patch16_224"), ("l", "vit_large_patch16_224")])
def test_every_weight_of_a_released_checkpoint_has_its_place(size: str, backbone: str) -> None:
    recipe = dataclasses.replace(RECIPE, image_size=1024, head_channels=256, window=14)
    options = CocoDetection().backbone_options(recipe, layers=resolve(backbone).layers)
    with torch.device("meta"):
        transformer = WindowedMultiway(resolve(backbone, image_size=1024, **options))
        theirs = translated({name: torch.empty(shape) for name, shape in KEYS[size].items()}, grid=64)
    own = Detector(transformer, classes=range(80), recipe=recipe)
    needed = {name: parameter.shape for name, parameter in own.named_parameters() if parameter.requires_grad}
    assert needed.keys() == theirs.keys()
    assert all(needed[name] == tensor.shape for name, tensor in theirs.items())


def test_weights_are_initialised_as_in_detectron2() -> None:
    torch.manual_seed(0)
    roi = small().net.roi_head
    layer = roi.bbox_head[1].shared_fcs[0].weight
    assert layer.abs().max().item() == pytest.approx((3 / layer.shape[1]) ** 0.5, rel=1e-3)
    assert roi.mask_head[0].conv_logits.weight.std().item() == pytest.approx(0.001, rel=0.4)
    assert roi.bbox_head[2].fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert roi.bbox_head[2].fc_reg.weight.std().item() == pytest.approx(0.001, rel=0.2)


def test_a_pickle_that_names_more_than_arrays_is_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "harm",))

    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": {"backbone.net.pos_embed": Harm()}}))
    with pytest.raises(InputError, match=r"more than arrays .*could run code"):
        weights.load(small(), path)
    assert not (tmp_path / "harm").exists()
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match="not a whole pickle of arrays"):
        weights.load(small(), path)
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(InputError, match="no dictionary"):
        weights.load(small(), path)


def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    state = random_weights(KEYS["small"]) | {"roi_heads.keypoint_head.score.weight": torch.zeros(1)}
    with pytest.raises(InputError, match=r"roi_heads\.keypoint_head"):
        weights.load(small(), released(tmp_path, state))


def test_anchors_are_matched_some_objects_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmengine.structures import InstanceData

    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(300, 2, generator=generator) * 100
    boxes = torch.cat([corner, corner + 5 + torch.rand(300, 2, generator=generator) * 40], dim=1)
    proposals = InstanceData(priors=boxes[40:])
    objects = InstanceData(bboxes=boxes[:40], labels=torch.arange(40) % 3)
    matcher = Matcher(positive=0.7, negative=0.3, low_quality=True)
    whole = matcher.assign(proposals, objects)
    monkeypatch.setattr(detectron2_heads, "MAX_OVERLAPS", 260 * 7)
    parts = matcher.assign(proposals, objects)
    assert {-1, 0} < set(whole.gt_inds.tolist())
    for name in ("gt_inds", "max_overlaps", "labels"):
        assert torch.equal(getattr(parts, name), getattr(whole, name))
    nothing = matcher.assign(proposals, InstanceData(bboxes=boxes[:0], labels=torch.zeros(0, dtype=torch.long)))
    assert (nothing.gt_inds == 0).all()


def test_a_plain_transformer_is_for_images_only(tmp_path: Path) -> None:
    from backbones import bundled_tokenizer
    from backbones.tokenizer import Tokenizer

    with pytest.raises((UsageError, InputError), match="text embedding 1 rows"):
        Tokenizer(bundled_tokenizer("multiway_nano")).require_fit(resolve("vit_base_patch16_224").vocab_size)
