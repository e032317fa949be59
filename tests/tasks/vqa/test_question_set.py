from __future__ import annotations

from pathlib import Path

import pytest

from backbones import InputError
from tasks.vqa.question_set import annotations_file, read_question_set
from tasks.vqa.vocabulary import Vocabulary
from tests.support.questions import annotation_row, asked, question_row, write_annotations, write_questions


def write(root: Path, *, questions: list[int], annotations: list[int], people: int = 10) -> None:
    write_questions(root, "val2014", [question_row(number, "Is it?") for number in questions])
    write_annotations(root, "val2014", [annotation_row(number, ["yes"] * people) for number in annotations])


def test_questions_come_in_order_with_the_annotators_answers(tmp_path: Path) -> None:
    write_questions(tmp_path, "val2014", [question_row(42001, "Why?"), question_row(7000, "Who?")])
    rows = [annotation_row(7000, [*["Ann"] * 6, *["2"] * 4]), annotation_row(42001, ["no"] * 10, kind="yes/no")]
    write_annotations(tmp_path, "val2014", rows)
    first, second = read_question_set(tmp_path, "val2014").samples(Vocabulary(("2", "ann")))
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
    assert "targets" not in next(read_question_set(tmp_path, "val2014").samples(None)).annotation


@pytest.mark.parametrize(("part", "folder"), [("test-dev2015", "test2015"), ("test2015", "test2015")])
def test_test_questions_have_no_truth(tmp_path: Path, part: str, folder: str) -> None:
    write_questions(tmp_path, part, [question_row(1000, "Why?")])
    (sample,) = read_question_set(tmp_path, part).samples(Vocabulary(("yes",)))
    assert sample.annotation is None
    assert sample.inputs["image"] == f"{folder}/COCO_{folder}_000000000001.jpg"


@pytest.mark.parametrize(
    ("questions", "annotations", "people", "told"),
    [
        ([1000, 1001, 2000], [1000], 10, r"val2014: 2 question\(s\) have no annotation: 1001, 2000\."),
        ([1000], [1000, 2000], 10, r"1 question\(s\) are annotated but not in the questions file: 2000"),
        ([1000, 2000], [1000, 2000], 9, r"2 question\(s\) do not have 10 answers, which .* needs: 1000, 2000"),
        ([1000, 2000, 1000], [1000, 2000], 10, r"1 question\(s\) appear twice in the questions file: 1000"),
        ([1000], [1000, 1000], 10, r"appear twice in the annotations file: 1000"),
    ],
)
def test_questions_and_annotations_that_do_not_go_together(
    tmp_path: Path, questions: list[int], annotations: list[int], people: int, told: str
) -> None:
    write(tmp_path, questions=questions, annotations=annotations, people=people)
    found = read_question_set(tmp_path, "val2014")
    assert len(found.problems()) == 1
    with pytest.raises(InputError, match=told):
        list(found.samples(None))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"question_id": 1, "image_id": 1}, r"question 1 \(from 0\) has no field 'question'"),
        ({"question_id": "x", "image_id": 1, "question": "?"}, r"question 1 .* no whole number as 'question_id'"),
        ({"question_id": 1, "image_id": 1, "question": 5}, r"question 1 .* is not a text: 5"),
    ],
)
def test_questions_of_another_form(tmp_path: Path, row: dict, told: str) -> None:
    write_questions(tmp_path, "test2015", [question_row(1000, "Why?"), row])
    with pytest.raises(InputError, match=told):
        read_question_set(tmp_path, "test2015")


def test_annotations_of_another_form(tmp_path: Path) -> None:
    write(tmp_path, questions=[1000], annotations=[])
    row = annotation_row(1000, ["yes"] * 10)
    for broken in ({**row, "answers": [{"text": "yes"}] * 10}, {**row, "answers": "yes"}):
        write_annotations(tmp_path, "val2014", [broken])
        with pytest.raises(InputError, match=r"annotation 0 \(from 0\) has no list of answers"):
            read_question_set(tmp_path, "val2014")
    file = annotations_file(tmp_path, "val2014")
    file.write_text(file.read_text()[:-30])
    with pytest.raises(InputError, match=r"v2_mscoco_val2014_annotations.json .* cannot be read"):
        read_question_set(tmp_path, "val2014")


def test_the_paths_of_the_images_are_named_once(tmp_path: Path) -> None:
    write_questions(tmp_path, "test2015", asked([3, 1]))
    assert read_question_set(tmp_path, "test2015").image_paths() == [
        "test2015/COCO_test2015_000000000001.jpg",
        "test2015/COCO_test2015_000000000003.jpg",
    ]
