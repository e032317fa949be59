from __future__ import annotations

import json
from pathlib import Path

import pytest

from backbones import InputError
from tasks.vqa.annotations import annotations_file, held_out_images, read_index, read_part
from tasks.vqa.vocabulary import Vocabulary
from tests.support.questions import annotation_row, asked, question_row, write_annotations, write_index, write_questions


def write(root: Path, *, questions: list[int], annotations: list[int], people: int = 10) -> None:
    write_questions(root, "val2014", [question_row(number, "Is it?") for number in questions])
    write_annotations(root, "val2014", [annotation_row(number, ["yes"] * people) for number in annotations])


def test_a_part_gives_its_questions_in_order_with_the_peoples_answers(tmp_path: Path) -> None:
    write_questions(tmp_path, "val2014", [question_row(42001, "Why?"), question_row(7000, "Who?")])
    rows = [annotation_row(7000, [*["Ann"] * 6, *["2"] * 4]), annotation_row(42001, ["no"] * 10, kind="yes/no")]
    write_annotations(tmp_path, "val2014", rows)
    first, second = read_part(tmp_path, "val2014").samples(Vocabulary(("2", "ann")))
    assert first.id == "42001"
    assert first.inputs == {"image": "val2014/COCO_val2014_000000000042.jpg", "text": "Why?"}
    assert first.annotation == {
        "image": 42,
        "question_type": "what",
        "answer_type": "yes/no",
        "answers": ["no"] * 10,
        "targets": {},
    }
    assert second.annotation["answers"] == [*["Ann"] * 6, *["2"] * 4]
    assert second.annotation["targets"] == {"2": 1.0}
    assert "targets" not in next(read_part(tmp_path, "val2014").samples(None)).annotation


@pytest.mark.parametrize(("part", "folder"), [("test-dev2015", "test2015"), ("test2015", "test2015")])
def test_test_questions_have_no_truth_and_know_the_vocabulary(tmp_path: Path, part: str, folder: str) -> None:
    write_questions(tmp_path, part, [question_row(1000, "Why?")])
    vocabulary = Vocabulary(("yes",))
    (sample,) = read_part(tmp_path, part).samples(vocabulary)
    assert sample.annotation is None
    assert sample.inputs["image"] == f"{folder}/COCO_{folder}_000000000001.jpg"
    assert sample.inputs["vocabulary"] is vocabulary


@pytest.mark.parametrize(
    ("questions", "annotations", "people", "told"),
    [
        ([1000, 1001, 2000], [1000], 10, r"val2014: 2 question\(s\) have no annotation: 1001, 2000\."),
        ([1000], [1000, 2000], 10, r"1 question\(s\) are annotated but not in the questions file: 2000"),
        ([1000, 2000], [1000, 2000], 9, r"2 question\(s\) have not 10 answers, which .* needs: 1000, 2000"),
        ([1000, 2000, 1000], [1000, 2000], 10, r"1 question\(s\) stand twice in the questions file: 1000"),
        ([1000], [1000, 1000], 10, r"stand twice in the annotations file: 1000"),
    ],
)
def test_questions_and_annotations_that_do_not_go_together(
    tmp_path: Path, questions: list[int], annotations: list[int], people: int, told: str
) -> None:
    write(tmp_path, questions=questions, annotations=annotations, people=people)
    part = read_part(tmp_path, "val2014")
    assert len(part.problems()) == 1
    with pytest.raises(InputError, match=told):
        list(part.samples(None))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"question_id": 1, "image_id": 1}, r"question 1 \(from 0\) has no field 'question'"),
        ({"question_id": "x", "image_id": 1, "question": "?"}, r"question 1 .* no whole number as 'question_id'"),
        ({"question_id": 1, "image_id": 1, "question": 5}, r"question 1 .* is no text: 5"),
    ],
)
def test_questions_of_another_form(tmp_path: Path, row: dict, told: str) -> None:
    write_questions(tmp_path, "test2015", [question_row(1000, "Why?"), row])
    with pytest.raises(InputError, match=told):
        read_part(tmp_path, "test2015")


def test_annotations_of_another_form(tmp_path: Path) -> None:
    write(tmp_path, questions=[1000], annotations=[])
    row = annotation_row(1000, ["yes"] * 10)
    for broken in ({**row, "answers": [{"text": "yes"}] * 10}, {**row, "answers": "yes"}):
        write_annotations(tmp_path, "val2014", [broken])
        with pytest.raises(InputError, match=r"annotation 0 \(from 0\) has no list of answers"):
            read_part(tmp_path, "val2014")
    file = annotations_file(tmp_path, "val2014")
    file.write_text(file.read_text()[:-30])
    with pytest.raises(InputError, match=r"v2_mscoco_val2014_annotations.json .* cannot be read"):
        read_part(tmp_path, "val2014")


# Held-out images


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


# Index files


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


def test_the_paths_of_a_parts_images_are_named_once(tmp_path: Path) -> None:
    write_questions(tmp_path, "test2015", asked([3, 1]))
    assert read_part(tmp_path, "test2015").image_paths() == [
        "test2015/COCO_test2015_000000000001.jpg",
        "test2015/COCO_test2015_000000000003.jpg",
    ]
