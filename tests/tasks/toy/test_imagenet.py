"""The toy set in ImageNet form: its files, and that nothing but the shape tells the class."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tasks
from backbones.errors import InputError
from tasks import toy
from tasks.toy.draw import draw
from tasks.toy.imagenet import CLASSES
from tasks.toy.scene import generator, sample_scene

CHANCE = 1 / len(CLASSES)


def hashes(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    toy.write(tmp_path, train=20, val=10)
    return tmp_path


def test_the_same_seed_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    for train, name in ((20, "again"), (40, "more")):
        toy.write(tmp_path / name, train=train, val=10)
    again, more = hashes(tmp_path / "again" / "imagenet"), hashes(tmp_path / "more" / "imagenet")
    drawn = hashes(written / "imagenet")
    assert again == drawn
    pictures = {name: digest for name, digest in drawn.items() if name.endswith(".JPEG")}
    assert pictures.items() <= more.items()
    assert len(more) == len(drawn) + 20


def test_other_seeds_and_splits_have_other_pictures(written: Path, tmp_path: Path) -> None:
    toy.write(tmp_path / "other", train=20, val=10, seed=1)
    first, other = (
        [digest for name, digest in hashes(root / "imagenet").items() if name.endswith(".JPEG")]
        for root in (written, tmp_path / "other")
    )
    assert len({*first, *other}) == len(first) + len(other) == 60


def test_classes_are_balanced_and_read_by_the_adapter(written: Path) -> None:
    folder = written / "imagenet"
    adapter = tasks.get("imagenet")
    assert adapter.classes(folder) == sorted(CLASSES)
    for split, each in (("train", 2), ("val", 1)):
        labels = [sample.annotation["label"] for sample in adapter.samples(folder, split)]
        assert np.bincount(labels).tolist() == [each] * len(CLASSES)
    with Image.open(next(folder.glob("train/star/*.JPEG"))) as image:
        assert (image.size, image.mode, image.format) == ((80, 80), "RGB", "JPEG")


def test_a_second_call_draws_nothing(written: Path) -> None:
    before = times(written)
    assert toy.write(written, train=20, val=10) == {"imagenet": written / "imagenet"}
    assert times(written) == before


def test_an_interrupted_call_is_completed(written: Path, tmp_path: Path) -> None:
    """Killed while the 13th picture is on its way; what was there before is not drawn again."""

    def stop_at(indices: Iterable[int], title: str) -> Iterator[int]:
        for index in indices:
            if index == 12:
                raise KeyboardInterrupt
            yield index

    root = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        toy.write(root, train=20, val=10, progress=stop_at)
    assert not (root / "imagenet" / "toy.json").exists()
    (root / "imagenet" / "train" / CLASSES[2] / "000012.JPEG.partial").write_bytes(b"half a file")
    before = {path: time for path, time in times(root).items() if path.suffix == ".JPEG"}
    assert len(before) == 12
    toy.write(root, train=20, val=10)
    assert before.items() <= times(root).items()
    assert hashes(root / "imagenet") == hashes(written / "imagenet")


def test_progress_wraps_each_split(tmp_path: Path) -> None:
    seen = []

    def watch(indices: range, title: str) -> range:
        seen.append((title, len(indices)))
        return indices

    toy.write(tmp_path, train=20, val=10, progress=watch)
    assert seen == [("draw train", 20), ("draw val", 10)]


@pytest.mark.parametrize("other", [{"seed": 1}, {"train": 30}, {"val": 11}, {"image_size": 64}])
@pytest.mark.parametrize("finished", [True, False])
def test_other_parameters_are_refused(written: Path, other: dict[str, int], finished: bool) -> None:
    folder = written / "imagenet"
    if not finished:
        (folder / "toy.json").rename(folder / "toy.partial.json")
    before = hashes(written)
    with pytest.raises(InputError, match="already holds a toy data set drawn with") as caught:
        toy.write(written, **({"train": 20, "val": 10} | other))
    assert str(folder) in str(caught.value)
    assert hashes(written) == before


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "imagenet" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="already holds files that are no toy data set") as caught:
        toy.write(tmp_path, train=20, val=10)
    assert str(tmp_path / "imagenet") in str(caught.value)


@pytest.mark.parametrize("wrong", [{"train": 9}, {"val": 0}, {"seed": -1}, {"image_size": 8}])
def test_arguments_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        toy.write(tmp_path, **({"train": 20, "val": 10} | wrong))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "imagenet").write_text("in the way")
    with pytest.raises(InputError, match=str(tmp_path / "imagenet")):
        toy.write(tmp_path, train=20, val=10)


def test_the_marker_holds_the_parameters(written: Path) -> None:
    marker = json.loads((written / "imagenet" / "toy.json").read_text())
    assert marker == {"version": 1, "seed": 0, "train": 20, "val": 10, "image_size": 80}


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
