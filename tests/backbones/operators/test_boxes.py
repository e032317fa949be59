from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor


def some(count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Boxes of 8 to 48 pixels within 100, so that most overlap several others, and their scores."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    size = torch.rand(count, 2, generator=generator) * 40 + 8
    return torch.cat([corner, corner + size], 1), torch.rand(count, generator=generator)


def iou(a: list[float], b: list[float], offset: int) -> float:
    def side(low: float, high: float) -> float:
        return max(high - low + offset, 0)

    shared = side(max(a[0], b[0]), min(a[2], b[2])) * side(max(a[1], b[1]), min(a[3], b[3]))
    areas = [side(box[0], box[2]) * side(box[1], box[3]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def greedy(boxes: list, scores: list, *, threshold: float, offset: int) -> list[int]:
    kept: list[int] = []
    for number in sorted(range(len(boxes)), key=lambda number: -scores[number]):
        if all(iou(boxes[number], boxes[other], offset) <= threshold for other in kept):
            kept.append(number)
    return kept


def soft(
    boxes: list, scores: list, *, method: str, threshold: float, sigma: float, min_score: float, offset: int
) -> tuple[list[int], list[float]]:
    """The paper's pseudo-code (figure 3), with mmcv's `min_score`: what falls below it goes."""
    scores, left = list(scores), list(range(len(boxes)))
    kept: list[int] = []
    while left:
        best = max(left, key=lambda number: scores[number])
        left.remove(best)
        kept.append(best)
        for number in list(left):
            overlap = iou(boxes[best], boxes[number], offset)
            if method == "gaussian":
                scores[number] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                scores[number] *= 1 - overlap if method == "linear" else 0
            if scores[number] < min_score:
                left.remove(number)
    return kept, [scores[number] for number in kept]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_nms_keeps_what_a_plain_loop_keeps(where: torch.device, threshold: float, offset: int) -> None:
    from mmcv.ops import nms

    boxes, scores = some(80)
    dets, kept = nms(boxes.to(where), scores.to(where), threshold, offset=offset)
    assert kept.tolist() == greedy(boxes.tolist(), scores.tolist(), threshold=threshold, offset=offset)
    assert torch.equal(dets.cpu(), torch.cat([boxes, scores[:, None]], 1)[kept.cpu()])
    if offset == 0:
        assert torch.equal(kept.cpu(), torchvision.ops.nms(boxes, scores, threshold))


def test_the_offset_of_nms_decides() -> None:
    from mmcv.ops import nms

    # Shared 2 of 6 without the pixel at the end, 6 of 12 with it.
    boxes, scores = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2]]), torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.4, offset=0)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.4, offset=1)[1].tolist() == [0]


def test_nms_limits_and_takes_arrays_and_half_precision() -> None:
    from mmcv.ops import nms

    boxes, scores = some(60)
    expected = greedy(boxes.tolist(), scores.tolist(), threshold=0.5, offset=0)
    _, kept = nms(boxes.numpy(), scores.numpy(), 0.5, score_threshold=0.2, max_num=5)
    assert kept.tolist() == expected[:5]
    rounded, low = boxes.bfloat16(), scores.bfloat16()
    _, kept = nms(rounded, low, 0.5)
    assert torch.equal(kept, torchvision.ops.nms(rounded.float(), low.float(), 0.5))
    assert nms(boxes[:0], scores[:0], 0.5)[1].tolist() == []


@pytest.mark.parametrize("threshold", [10_000, 20], ids=["together", "class by class"])
def test_batched_nms_lets_classes_alone(where: torch.device, threshold: int) -> None:
    from mmcv.ops import batched_nms

    boxes, scores = some(90)
    classes = torch.arange(90) % 3
    options = {"type": "nms", "iou_threshold": 0.4, "split_thr": threshold}
    dets, kept = batched_nms(boxes.to(where), scores.to(where), classes.to(where), options)
    expected = torchvision.ops.batched_nms(boxes, scores, classes, 0.4)
    assert torch.equal(kept.cpu(), expected)
    assert torch.equal(dets[:, 4].cpu(), scores[expected])
    _, agnostic = batched_nms(boxes.to(where), scores.to(where), classes.to(where), options, class_agnostic=True)
    if threshold > 90:
        assert torch.equal(agnostic.cpu(), torchvision.ops.nms(boxes, scores, 0.4))
        assert len(agnostic) < len(kept)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_is_that_of_the_paper(where: torch.device, method: str, offset: int) -> None:
    from mmcv.ops import soft_nms

    boxes, scores = some(60)
    options = {"sigma": 0.4, "min_score": 0.05, "method": method, "offset": offset}
    dets, kept = soft_nms(boxes.to(where), scores.to(where), iou_threshold=0.3, **options)
    expected, final = soft(boxes.tolist(), scores.tolist(), threshold=0.3, **options)
    assert kept.tolist() == expected
    assert len(expected) < 60  # some fell below
    assert torch.equal(dets[:, :4].cpu(), boxes[expected])
    torch.testing.assert_close(dets[:, 4].cpu(), torch.tensor(final), atol=1e-6, rtol=0)
    assert dets.device.type == where.type


def test_soft_nms_of_boxes_without_area() -> None:
    """mmcv's own example: five of six stay."""
    from mmcv.ops import soft_nms

    boxes = np.array([[4, 3, 5, 3], [4, 3, 5, 4], [3, 1, 3, 1], [3, 1, 3, 1], [3, 1, 3, 1], [3, 1, 3, 1]], np.float32)
    scores = np.array([0.9, 0.9, 0.5, 0.5, 0.4, 0.0], np.float32)
    dets, kept = soft_nms(boxes, scores, 0.6, sigma=0.5)
    assert sorted(kept.tolist()) == [0, 1, 2, 3, 4]
    assert dets[:, 4].tolist() == pytest.approx([0.9, 0.9, 0.5, 0.5, 0.4])


def test_soft_nms_keeps_the_best_whatever_its_score_and_nothing_of_nothing() -> None:
    from mmcv.ops import soft_nms

    boxes, scores = some(5)
    assert soft_nms(boxes, scores * 1e-4, min_score=0.01)[1].tolist() == [int(scores.argmax())]
    dets, kept = soft_nms(boxes[:0], scores[:0])
    assert (dets.shape, kept.shape) == ((0, 5), (0,))


def test_batched_soft_nms_is_soft_nms_of_each_class() -> None:
    from mmcv.ops import batched_nms

    boxes, scores = some(60)
    classes = torch.arange(60) % 2
    options = {"type": "soft_nms", "iou_threshold": 0.3, "min_score": 0.05, "method": "linear"}
    dets, kept = batched_nms(boxes, scores, classes, options)
    found = dict(zip(kept.tolist(), dets[:, 4].tolist(), strict=True))
    expected: dict[int, float] = {}
    for label in (0, 1):
        own = (classes == label).nonzero()[:, 0]
        numbers, final = soft(
            boxes[own].tolist(),
            scores[own].tolist(),
            method="linear",
            threshold=0.3,
            sigma=0.5,
            min_score=0.05,
            offset=0,
        )
        expected |= dict(zip(own[numbers].tolist(), final, strict=True))
    # The best of the second class is not the best of all, but stays above the least score.
    assert found == pytest.approx(expected, abs=1e-4)
