from __future__ import annotations

from pathlib import Path

import pytest

from backbones import InputError
from tasks.vqa.index_file import read_index
from tasks.vqa.vocabulary import Vocabulary
from tests.support.questions import write_index

ROW = {
    "image_path": "val2014/COCO_val2014_000000000042.jpg",
    "text_segment": [5, 6],
    "labels": [2, 0],
    "scores": [1, 0.3],
    "qid": 42001,
}
ANSWERS = Vocabulary(("a", "b", "c"))


def test_an_index_gives_token_ids_and_soft_labels(tmp_path: Path) -> None:
    write_index(tmp_path, "val", [ROW])
    (sample,) = read_index(tmp_path, "val", ANSWERS, labelled=True)
    assert sample == (
        "42001",
        {"image": ROW["image_path"], "text": [5, 6]},
        {"image": 42, "targets": {"c": 1, "a": 0.3}},
    )
    write_index(tmp_path, "test", [{**ROW, "labels": [], "scores": []}])
    (sample,) = read_index(tmp_path, "test", None, labelled=False)
    assert sample == ("42001", {"image": ROW["image_path"], "text": [5, 6]}, None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": [3, 0]}, r"line 2: labels \[3, 0\] .* labels from 0 to 2 as answer2label.txt has them"),
        ({"labels": [-1, 0]}, r"line 2: labels \[-1, 0\]"),
        ({"scores": [1]}, r"line 2: labels \[2, 0\] with scores \[1\]"),
        ({"image_path": "val2014/cat.jpg"}, r"line 2: image val2014/cat.jpg is not named as COCO's are"),
        ({"qid": None}, r"line 2 has no whole number as 'qid'"),
    ],
)
def test_an_index_line_of_another_form(tmp_path: Path, change: dict, told: str) -> None:
    write_index(tmp_path, "val", [ROW, {**ROW, "qid": 2, **change}])
    with pytest.raises(InputError, match=told):
        read_index(tmp_path, "val", ANSWERS, labelled=True)
