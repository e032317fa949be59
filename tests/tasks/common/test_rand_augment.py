"""RandAugment against the official operations, levels and probabilities (tests/reference/randaugment/make.py)."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from timm.data.auto_augment import AugmentOp

from tasks.common.images import RAND_AUGMENT, augmented
from tests.conftest import TESTS
from tests.reference.randaugment.make import ENHANCING, GEOMETRIC, LEVELS, WITHOUT_LEVEL


@pytest.fixture(scope="module")
def official() -> dict[str, np.ndarray]:
    with np.load(TESTS / "reference" / "randaugment" / "operations.npz") as file:
        return {name: array.astype(int) for name, array in file.items()}


@pytest.fixture(scope="module")
def operations() -> dict[str, AugmentOp]:
    transform = next(step for step in augmented(32, rand_augment=True).transforms if hasattr(step, "ops"))
    return {operation.name: operation for operation in transform.ops if isinstance(operation, AugmentOp)}


def applied(operation: AugmentOp, image: np.ndarray, *, sign: str = "+") -> np.ndarray:
    """Apply the operation to an image; `sign` is that of its argument."""
    arguments = operation.level_fn(operation.magnitude, operation.hparams) if operation.level_fn else ()
    if sign in "+-" and arguments and operation.name in GEOMETRIC:
        arguments = (abs(arguments[0]) * (1 if sign == "+" else -1),)
    return np.array(operation.aug_fn(Image.fromarray(image.astype(np.uint8)), *arguments, **operation.kwargs), int)


def test_the_operations_are_the_official_ones(operations: dict[str, AugmentOp]) -> None:
    assert set(operations) == set(RAND_AUGMENT) == {*WITHOUT_LEVEL, *ENHANCING, *GEOMETRIC}


@pytest.mark.parametrize("name", [*WITHOUT_LEVEL, "Brightness"])
def test_tables_of_values_are_the_same(
    name: str, operations: dict[str, AugmentOp], official: dict[str, np.ndarray]
) -> None:
    image = official["stretchable" if name == "AutoContrast" else "image"]
    assert np.array_equal(applied(operations[name], image), official[f"{name} 7 +"])


def test_sharpness_differs_by_rounding_alone(operations: dict[str, AugmentOp], official: dict[str, np.ndarray]) -> None:
    found = applied(operations["Sharpness"], official["image"])
    assert np.abs(found - official["Sharpness 7 +"]).max() <= 1
    assert np.abs(found - official["image"]).max() > 5


@pytest.mark.parametrize("name", ["TranslateX", "TranslateY"])
def test_translations_are_the_same(
    name: str, operations: dict[str, AugmentOp], official: dict[str, np.ndarray]
) -> None:
    """By seven pixels, with grey behind."""
    for sign in "+-":
        found = applied(operations[name], official["image"], sign=sign)
        assert np.array_equal(found, official[f"{name} 7 {sign}"])
        assert (found == 128).all(-1).sum() == 7 * found.shape[0 if name == "TranslateX" else 1]


@pytest.mark.parametrize("name", ["ShearX", "ShearY", "Rotate"])
def test_shears_and_rotations_have_the_official_level(
    name: str, operations: dict[str, AugmentOp], official: dict[str, np.ndarray]
) -> None:
    """OpenCV counts places from the middle of the first pixel, so edges are half a pixel off; other levels are more."""
    found = [applied(operations[name], official["image"], sign=sign) for sign in "+-"]
    assert operations[name].kwargs["resample"] == Image.Resampling.BILINEAR
    # A shear to the left is one by a negative number here and by a positive one there.
    signs = "-+" if name.startswith("Shear") else "+-"
    away = {
        level: sum(
            np.abs(ours - official[f"{name} {level} {sign}"]).mean() for ours, sign in zip(found, signs, strict=True)
        )
        for level in LEVELS
    }
    assert min(away, key=away.get) == 7
    assert away[7] / 2 < 3
    effect = np.abs(official[f"{name} 7 +"] - official["image"]).mean()
    assert away[7] / 2 < 0.1 * effect


def test_the_official_overflow_of_autocontrast_is_left_out(
    operations: dict[str, AugmentOp], official: dict[str, np.ndarray]
) -> None:
    assert official["image"].min((0, 1)).min() > 0
    assert (official["AutoContrast of image"] == 255).all()
    ours = applied(operations["AutoContrast"], official["image"])
    assert np.array_equal(ours.min((0, 1)), [0, 0, 0])
    assert ours.max((0, 1)).min() >= 254  # rounded down
    assert (ours >= 254).mean() < 0.1


def test_two_operations_are_drawn_with_replacement_and_applied_half_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transform = next(step for step in augmented(32, rand_augment=True).transforms if hasattr(step, "ops"))
    seen: list[str] = []
    for operation in transform.ops:
        if isinstance(operation, AugmentOp):
            monkeypatch.setattr(
                operation, "aug_fn", lambda image, *_, name=operation.name, **__: seen.append(name) or image
            )
    random.seed(0)
    np.random.seed(0)
    image, calls, counts, twice = Image.new("RGB", (8, 8)), 4000, Counter(), 0
    for _ in range(calls):
        seen.clear()
        transform(image)
        counts.update(seen)
        twice += len(seen) == 2 and seen[0] == seen[1]
    # Two draws of ten operations, each applied with probability 0.5: 0.1 times a call; standard deviation 0.005.
    assert set(counts) == set(RAND_AUGMENT)
    assert all(abs(count / calls - 0.1) < 0.02 for count in counts.values()), counts
    # Nine operations twice: 9 / 100 / 4 of the calls; standard deviation 0.0023.
    assert abs(twice / calls - 0.0225) < 0.01
