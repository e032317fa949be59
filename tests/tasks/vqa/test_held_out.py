from __future__ import annotations

import json
from pathlib import Path

import pytest

from backbones import InputError
from tasks.vqa.held_out import held_out_images
from tests.support.questions import write_index


def test_half_the_images_are_held_out_when_they_are_few_and_a_thousand_of_many(tmp_path: Path) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    for root in (few, many):
        (root / "vqa").mkdir(parents=True)
    assert len(held_out_images(few, range(7))) == 3
    images = range(1, 3 * 2500, 3)
    chosen = held_out_images(many, images)
    assert len(chosen) == 1000
    assert chosen <= set(images)
    # Drawn from all of them, not from one end.
    assert 0.45 < sum(image < 3750 for image in chosen) / 1000 < 0.55


def test_the_held_out_images_do_not_depend_on_order_and_are_not_written_down(tmp_path: Path) -> None:
    images = list(range(100))
    first = held_out_images(tmp_path, images)
    assert not list(tmp_path.iterdir())
    assert held_out_images(tmp_path, reversed(images * 3)) == first
    assert sorted(first)[:5] == [0, 1, 3, 5, 8], "the draw must stay what it was: trained weights go by it"


def test_a_list_of_ones_own_is_read_and_an_official_index_before_it(tmp_path: Path) -> None:
    (tmp_path / "vqa").mkdir()
    listed = tmp_path / "vqa" / "rest_val_images.json"
    listed.write_text("[5, 7]")
    assert held_out_images(tmp_path, range(10)) == {5, 7}
    rows = [{"image_path": f"val2014/COCO_val2014_{image:012d}.jpg"} for image in (3, 3, 9)]
    write_index(tmp_path, "rest_val", rows)
    assert held_out_images(tmp_path, range(10)) == {3, 9}
    assert json.loads(listed.read_text()) == [5, 7]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "should list the ids"),
        ('["COCO_val2014_000000000005.jpg"]', "should list the ids"),
        ('{"images": [5]}', "should list the ids"),
        ("[5, 99]", r"names 1 image\(s\) of which val2014 has no question, such as 99"),
    ],
)
def test_a_list_that_cannot_be_used(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "vqa").mkdir()
    (tmp_path / "vqa" / "rest_val_images.json").write_text(text)
    with pytest.raises(InputError, match=told):
        held_out_images(tmp_path, range(10))
