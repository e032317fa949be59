from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backbones import InputError
from tasks.retrieval.features import ARRAYS, read_npz, stacked

IDS = ["image:1", "image:2", "text:9"]


def records(**changes: object) -> dict:
    features = {name: np.full(4, number, np.float32) for number, name in enumerate(IDS)} | changes
    return {name: {"feature": feature} for name, feature in features.items()}


def test_features_of_records_in_the_order_asked_for() -> None:
    found = stacked(records(**{"text:9": [0.5, 1, 2, 3]}), ["text:9", "image:2"])
    assert found.dtype == np.float32
    assert found.tolist() == [[0.5, 1, 2, 3], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (np.zeros(5, np.float32), r"The feature of text:9 has 5 numbers, that of image:1 4"),
        (np.array([0, np.nan, 0, 0], np.float32), r"text:9 has a number that is not finite"),
        ([0.0, 1e39, 0.0, 0.0], r"text:9 has a number that is not finite"),  # more than float32 holds
        (np.zeros((1, 4), np.float32), r"The prediction of text:9 has no list of numbers under 'feature'"),
        (None, r"text:9 has no list of numbers under 'feature' \(found: None\)"),
        ("a caption", r"text:9 has no list of numbers"),
        ([[1, 2], 3], r"text:9 has no list of numbers"),
        (0.5, r"text:9 has no list of numbers"),
        ([], r"text:9 has no list of numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_feature_of_another_form_is_told(feature: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stacked(records(**{"text:9": feature}), IDS)


def test_a_record_of_another_task_is_told() -> None:
    with pytest.raises(InputError, match="The prediction of image:2 has no list of numbers under 'feature'"):
        stacked(records() | {"image:2": {"caption": "a bird"}}, IDS)


def npz(path: Path, **changes: np.ndarray | None) -> Path:
    arrays = {
        "image_ids": np.array([391895, 60623]),
        "image_features": np.eye(2, dtype=np.float32),
        "text_ids": np.array(["7", "8", "9"]),
        "text_features": np.ones((3, 2), np.float16),
    }
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})
    return path


def test_an_npz_file_becomes_records(tmp_path: Path) -> None:
    found = read_npz(npz(tmp_path / "features.npz"))
    assert [record["id"] for record in found] == ["image:391895", "image:60623", "text:7", "text:8", "text:9"]
    assert found[1]["feature"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_ids": None}, r"does not have all of its arrays image_ids, image_features, text_ids, text_features"),
        ({"text_ids": np.array([1, 2])}, r"text_ids has the shape \(2,\) and text_features \(3, 2\)"),
        ({"image_features": np.ones(2)}, r"image_features \(2,\)"),
        # Objects are pickled: reading them could run code.
        ({"image_ids": np.array([{}, None], object)}, r"is not an \.npz file of plain arrays"),
    ],
)
def test_an_npz_file_of_another_form_is_told(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_npz(npz(tmp_path / "features.npz", **changes))


@pytest.mark.parametrize("content", [b"no zip at all", b"", "half"])
def test_a_damaged_npz_file_is_told(tmp_path: Path, content: bytes | str) -> None:
    path = npz(tmp_path / "features.npz")
    path.write_bytes(path.read_bytes()[:300] if content == "half" else content)
    with pytest.raises(InputError, match=r"is not an \.npz file of plain arrays"):
        read_npz(path)


def test_an_absent_npz_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No predictions file at"):
        read_npz(tmp_path / "features.npz")


def test_every_array_is_documented() -> None:
    from tasks.retrieval.base import Retrieval

    assert all(name in Retrieval.__doc__ for name in ARRAYS)
