"""The toy set in ImageNet form: its files, and that nothing but the shape tells the class."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tasks
from tasks import toy
from tasks.toy.draw import draw
from tasks.toy.imagenet import CLASSES
from tasks.toy.scene import generator, sample_scene

pytestmark = pytest.mark.slow  # draws pictures

CHANCE = 1 / len(CLASSES)


def test_pictures_are_the_ones_they_always_were(tmp_path: Path) -> None:
    """Results on the toy set stay comparable as the set grows."""
    root = toy.write(tmp_path, tasks=("imagenet",), scale=0.001)["imagenet"]
    drawn = {}
    for split in ("train", "val"):
        for index, name in enumerate(CLASSES):
            drawn[split, index] = draw(sample_scene(generator(0, f"imagenet/{split}", index), subject=name), size=80)
            again = io.BytesIO()
            Image.fromarray(drawn[split, index]).save(again, "JPEG", quality=92)
            assert (root / split / name / f"{index:06d}.JPEG").read_bytes() == again.getvalue()
    digest = hashlib.sha256(np.stack(list(drawn.values())).tobytes()).hexdigest()
    assert digest == "68e5e55b6b3da86db227da2bf2eeda59eab91af0430e7a0480d3e5af42affed2"


def test_classes_are_balanced_and_read_by_the_adapter(tmp_path: Path) -> None:
    folder = toy.write(tmp_path, tasks=("imagenet",), scale=0.007)["imagenet"]
    adapter = tasks.get("imagenet")
    assert adapter.labels(folder) == sorted(CLASSES)
    for split, counts in (("train", [3] + [2] * 9), ("val", [1] * 10)):
        labels = [sample.annotation["label"] for sample in adapter.samples(folder, split)]
        assert np.bincount(labels).tolist() == counts
    with Image.open(next(folder.glob("train/star/*.JPEG"))) as image:
        assert (image.size, image.mode, image.format) == ((80, 80), "RGB", "JPEG")


@pytest.fixture(scope="module")
def pictures() -> dict[str, tuple[np.ndarray, torch.Tensor]]:
    """2000 training and 500 validation pictures (uint8 [n, 64, 64, 3]) with their labels."""

    def split(name: str, count: int) -> tuple[np.ndarray, torch.Tensor]:
        labels = [index % len(CLASSES) for index in range(count)]
        rngs = (generator(0, f"imagenet/{name}", index) for index in range(count))
        drawn = [
            draw(sample_scene(rng, subject=CLASSES[label]), size=64) for rng, label in zip(rngs, labels, strict=True)
        ]
        return np.stack(drawn), torch.tensor(labels)

    return {"train": split("train", 2000), "val": split("val", 500)}


def pixels(images: np.ndarray) -> np.ndarray:
    """32 x 32 RGB, by averaging blocks of four pixels."""
    return images.reshape(len(images), 32, 2, 32, 2, 3).mean((2, 4)).reshape(len(images), -1)


def mean_colour(images: np.ndarray) -> np.ndarray:
    return images.mean((1, 2))


def colour_histogram(images: np.ndarray) -> np.ndarray:
    """The share of each of 64 colours."""
    codes = (images // 64 @ np.array([16, 4, 1], np.uint8)).reshape(len(images), -1)
    return np.stack([np.bincount(code, minlength=64) for code in codes]) / codes.shape[1]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Steps this small are slower on several threads, above all where other processes compete for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("features", [pixels, mean_colour, colour_histogram])
def test_a_linear_model_learns_next_to_nothing(
    pictures: dict[str, tuple[np.ndarray, torch.Tensor]], features: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Multinomial logistic regression stays below twice the chance, wherever its training is stopped."""
    (train, labels), (val, truth) = pictures["train"], pictures["val"]
    train, val = (torch.from_numpy(features(images)).float() for images in (train, val))
    mean, spread = train.mean(0), train.std(0) + 1e-3
    train, val = (train - mean) / spread, (val - mean) / spread
    torch.manual_seed(0)
    model = torch.nn.Linear(train.shape[1], len(CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3 if train.shape[1] > 1000 else 1e-2, weight_decay=1e-4)
    best = 0.0
    for step in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(train), labels).backward()
        optimizer.step()
        if step % 20 == 19:
            best = max(best, (model(val).argmax(1) == truth).float().mean().item())
    assert best <= 2 * CHANCE
