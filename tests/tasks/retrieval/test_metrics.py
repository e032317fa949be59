from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from tasks.retrieval.metrics import CUTOFFS, Places, measure, ranks


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
        assert found.texts.above[text] == order.index(owner[text])
    for image in range(40):
        right = owner[np.argsort(-scores[:, image])] == image
        assert found.images.above[image] == right.argmax()
    for places in found:
        assert 0 < (places.above == 0).mean() < 1
        assert (places.tied == 1).all()  # without ties a hit is one or none
        for k in CUTOFFS:
            assert (places.hits(k) == (places.above < k)).all()


@pytest.mark.parametrize("block", [1, 7, 64, 149, 1000])
def test_ranks_do_not_depend_on_the_block(block: int) -> None:
    images, texts, owner = features(40, 150)
    # Equal captions of several images, as they occur: their scores must tie however they are summed.
    texts[1::3] = texts[0]
    whole, parts = ranks(images, texts, owner, block=150), ranks(images, texts, owner, block=block)
    for side in ("images", "texts"):
        for one, other in zip(getattr(whole, side), getattr(parts, side), strict=True):
            assert (one == other).all()
    assert (whole.images.tied > 1).any()


def test_a_hit_among_tied_items_is_the_share_of_orders_that_have_it() -> None:
    """By counting: of all ways to choose the first k from the tied items, those without a right one."""
    for k in CUTOFFS:
        for above in range(12):
            for tied in range(1, 16):
                for right in range(1, tied + 1):
                    places = min(max(k - above, 0), tied)
                    expected = 1 - math.comb(tied - right, places) / math.comb(tied, places)
                    found = Places(*(np.array([number]) for number in (above, tied, right))).hits(k)
                    assert found == pytest.approx(expected, abs=1e-12), (k, above, tied, right)


def test_places_of_tied_items() -> None:
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0]], np.float32)
    found = ranks(images, texts, np.array([0, 1, 2]))
    # All texts score 1 with image 0 and 0 with image 2; text 1 scores 1 with image 1 too.
    assert [column.tolist() for column in found.images] == [[0, 0, 0], [3, 1, 3], [1, 1, 1]]
    assert [column.tolist() for column in found.texts] == [[0, 0, 1], [1, 2, 2], [1, 1, 1]]
    assert found.images.hits(1) == pytest.approx([1 / 3, 1, 1 / 3])
    assert found.texts.hits(1) == pytest.approx([1, 1 / 2, 0])


def test_right_items_that_tie_all_count() -> None:
    texts = np.ones((5, 2), np.float32)
    found = ranks(np.ones((2, 2), np.float32), texts, np.array([0, 0, 0, 1, 1]))
    assert found.images.right.tolist() == [3, 2]
    assert found.images.hits(1) == pytest.approx([3 / 5, 2 / 5])


def by_order(images: np.ndarray, texts: np.ndarray, owner: np.ndarray, order: np.random.Generator) -> dict[str, float]:
    """Recall of the first k of a list, both galleries in an order that decides between equal scores."""
    rows, columns = order.permutation(len(images)), order.permutation(len(texts))
    scores = images[rows].astype(np.float64) @ texts[columns].T.astype(np.float64)
    scores = scores.astype(np.float32)
    owners = owner[columns]
    texts_first, images_first = np.argsort(-scores, axis=1, kind="stable"), np.argsort(-scores.T, axis=1, kind="stable")
    found = {}
    for k in CUTOFFS:
        found[f"i2t_R{k}"] = 100 * (owners[texts_first[:, :k]] == rows[:, None]).any(1).mean()
        found[f"t2i_R{k}"] = 100 * (rows[images_first[:, :k]] == owners[:, None]).any(1).mean()
    return found


@pytest.mark.parametrize("kind", ["duplicates", "collapsed"])
def test_ties_are_worth_what_the_first_k_are_worth_on_average(kind: str) -> None:
    """The top k of a list in random order, a thousand times; duplicate captions also of one image, and of an image."""
    images, texts, owner = features(24, 80)
    if kind == "duplicates":
        texts[::4] = texts[3]
        texts[1::8] = texts[5]
        images[::6] = images[1]
    else:
        images, texts = images[np.arange(24) % 4], texts[np.arange(80) % 4]
    rng = np.random.default_rng(0)
    orders = [by_order(images, texts, owner, rng) for _ in range(1000)]
    for measured in measure(ranks(images, texts, owner), owner):
        if measured.metric.startswith("mean"):
            continue
        drawn = np.array([order[measured.metric] for order in orders])
        assert measured.value == pytest.approx(drawn.mean(), abs=4 * drawn.std() / 1000**0.5 + 1e-9), measured.metric
        assert kind == "duplicates" or drawn.std() > 0


def test_features_that_are_all_the_same_score_chance() -> None:
    count, of_each = 200, 5
    same = np.ones((count, 8), np.float32)
    owner = np.repeat(np.arange(count), of_each)
    values = {m.metric: m.value for m in measure(ranks(same, np.ones((len(owner), 8), np.float32), owner), owner)}
    for k in CUTOFFS:
        assert values[f"t2i_R{k}"] == pytest.approx(100 * k / count)
        missed = math.comb(len(owner) - of_each, k) / math.comb(len(owner), k)
        assert values[f"i2t_R{k}"] == pytest.approx(100 * (1 - missed))


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_duplicate_captions_lower_the_recall_of_a_perfect_model(copies: int) -> None:
    """Images whose caption other images have too: the right one is first with a chance of one in so many."""
    images = np.eye(40, dtype=np.float32)
    texts = np.zeros((40, 40), np.float32)
    for number in range(40):
        group = number // copies * copies
        texts[number, group : group + copies] = 1  # nearest to all images that it fits
    values = {m.metric: m.value for m in measure(ranks(images, texts, np.arange(40)), np.arange(40))}
    assert values["i2t_R1"] == pytest.approx(100 / copies)
    assert values["t2i_R1"] == pytest.approx(100 / copies)
    assert values["i2t_R5"] == values["t2i_R5"] == 100


def test_an_image_is_found_by_any_of_its_texts() -> None:
    images = np.eye(2, dtype=np.float32)
    texts = np.array([[0.1, 0.9], [0.8, 0.2], [0.7, 0.6]], np.float32)
    found = ranks(images, texts, np.array([0, 0, 1]))
    assert found.images.above.tolist() == [0, 1]  # the second image prefers the first one's worse caption
    assert found.texts.above.tolist() == [1, 0, 1]


def test_recalls_and_their_means() -> None:
    images, texts, owner = features(40, 150)
    found = ranks(images, texts, owner)
    values = {measured.metric: measured for measured in measure(found, owner)}
    names = [f"{direction}_R{k}" for direction in ("i2t", "t2i") for k in (1, 5, 10)]
    assert list(values) == ["mean_R1", *names, "mean_recall"]
    assert values["i2t_R5"].value == pytest.approx(100 * np.mean(found.images.above <= 4))
    assert values["t2i_R10"].value == pytest.approx(100 * np.mean(found.texts.above <= 9))
    assert values["mean_R1"].value == pytest.approx((values["i2t_R1"].value + values["t2i_R1"].value) / 2)
    assert values["mean_recall"].value == pytest.approx(np.mean([values[name].value for name in names]))
    assert [values[name].samples for name in ("i2t_R1", "t2i_R1", "mean_R1", "mean_recall")] == [40, 150, 190, 190]
    assert {measured.units for measured in values.values()} == {40}


def test_an_image_counts_with_its_texts() -> None:
    images, texts, owner = features(40, 150)
    found = ranks(images, texts, owner)
    values = {measured.metric: measured for measured in measure(found, owner)}
    weights = np.zeros(40)
    weights[[3, 8]] = 1, 2
    assert values["i2t_R1"].at(weights) == pytest.approx(
        100 * ((found.images.above[3] == 0) + 2 * (found.images.above[8] == 0)) / 3
    )
    hits = {image: found.texts.above[owner == image] == 0 for image in (3, 8)}
    expected = 100 * (hits[3].sum() + 2 * hits[8].sum()) / (len(hits[3]) + 2 * len(hits[8]))
    assert values["t2i_R1"].at(weights) == pytest.approx(expected)
    low, high = values["mean_R1"].interval(seed=0)
    assert low < values["mean_R1"].value < high


@pytest.mark.slow
def test_the_largest_split_takes_little_memory() -> None:
    """COCO's test split at base size, of which all scores at once would be a GiB in float64."""
    rng = np.random.default_rng(0)
    images, texts = (rng.standard_normal((count, 768), dtype=np.float32) for count in (5_000, 25_000))
    tracemalloc.start()
    ranks(images, texts, np.arange(25_000) // 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**28  # bytes, besides the features
