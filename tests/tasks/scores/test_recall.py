from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tasks.scores.recall import measurements, ranks


def features(images: int, texts: int, dim: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts near their images, in no order, two to five an image."""
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.concatenate([np.arange(images), rng.integers(images, size=texts - images)]))
    picture = rng.normal(size=(images, dim))
    text = picture[owner] + rng.normal(size=(texts, dim)) * 2
    unit = [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (picture, text)]
    return *unit, owner


def test_ranks_are_places_in_the_sorted_list() -> None:
    images, texts, owner = features(40, 150)
    found = ranks(images, texts, owner)
    scores = texts.astype(float) @ images.T.astype(float)
    for text in range(150):
        order = np.argsort(-scores[text]).tolist()
        assert found.texts[text] == order.index(owner[text])
    for image in range(40):
        right = owner[np.argsort(-scores[:, image])] == image
        assert found.images[image] == right.argmax()
    assert 0 < (found.texts == 0).mean() < 1
    assert 0 < (found.images == 0).mean() < 1


@pytest.mark.parametrize("block", [1, 7, 64, 149, 1000])
def test_ranks_do_not_depend_on_the_block(block: int) -> None:
    images, texts, owner = features(40, 150)
    # Equal captions of several images, as they occur: their scores must tie however they are summed.
    texts[1::3] = texts[0]
    whole, parts = ranks(images, texts, owner, block=150), ranks(images, texts, owner, block=block)
    assert (whole.images == parts.images).all()
    assert (whole.texts == parts.texts).all()


def test_ties_count_as_behind() -> None:
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0]], np.float32)
    found = ranks(images, texts, np.array([0, 1, 2]))
    # All texts score 1 with image 0 and 0 with image 2; text 1 scores 1 with image 1 too.
    assert found.images.tolist() == [0, 0, 0]
    assert found.texts.tolist() == [0, 0, 1]


def test_an_image_is_found_by_any_of_its_texts() -> None:
    images = np.eye(2, dtype=np.float32)
    texts = np.array([[0.1, 0.9], [0.8, 0.2], [0.7, 0.6]], np.float32)
    found = ranks(images, texts, np.array([0, 0, 1]))
    assert found.images.tolist() == [0, 1]  # the second image prefers the first one's worse caption
    assert found.texts.tolist() == [1, 0, 1]


def test_recalls_and_their_means() -> None:
    images, texts, owner = features(40, 150)
    found = ranks(images, texts, owner)
    values = {measured.metric: measured for measured in measurements(found, owner)}
    names = [f"{direction}_R{k}" for direction in ("i2t", "t2i") for k in (1, 5, 10)]
    assert list(values) == ["mean_R1", *names, "mean_recall"]
    assert values["i2t_R5"].value == pytest.approx(100 * np.mean(found.images <= 4))
    assert values["t2i_R10"].value == pytest.approx(100 * np.mean(found.texts <= 9))
    assert values["mean_R1"].value == pytest.approx((values["i2t_R1"].value + values["t2i_R1"].value) / 2)
    assert values["mean_recall"].value == pytest.approx(np.mean([values[name].value for name in names]))
    assert [values[name].samples for name in ("i2t_R1", "t2i_R1", "mean_R1", "mean_recall")] == [40, 150, 190, 190]
    assert {measured.units for measured in values.values()} == {40}


def test_an_image_counts_with_its_texts() -> None:
    images, texts, owner = features(40, 150)
    found = ranks(images, texts, owner)
    values = {measured.metric: measured for measured in measurements(found, owner)}
    weights = np.zeros(40)
    weights[[3, 8]] = 1, 2
    assert values["i2t_R1"].statistic(weights) == pytest.approx(
        100 * ((found.images[3] == 0) + 2 * (found.images[8] == 0)) / 3
    )
    hits = {image: found.texts[owner == image] == 0 for image in (3, 8)}
    expected = 100 * (hits[3].sum() + 2 * hits[8].sum()) / (len(hits[3]) + 2 * len(hits[8]))
    assert values["t2i_R1"].statistic(weights) == pytest.approx(expected)
    low, high = values["mean_R1"].interval(seed=0)
    assert low < values["mean_R1"].value < high


def test_the_largest_split_takes_little_memory() -> None:
    """COCO's test split at base size, of which all scores at once would be a GiB in float64."""
    rng = np.random.default_rng(0)
    images, texts = (rng.standard_normal((count, 768), dtype=np.float32) for count in (5_000, 25_000))
    tracemalloc.start()
    ranks(images, texts, np.arange(25_000) // 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**28  # bytes, besides the features
