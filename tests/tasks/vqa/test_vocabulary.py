from __future__ import annotations

from pathlib import Path

import pytest

from backbones import InputError
from tasks.vqa.question_set import annotations_file
from tasks.vqa.vocabulary import Vocabulary, has_vocabulary, read_vocabulary
from tests.support.questions import annotation_row, write_annotations, write_labels


def files(root: Path) -> list[Path]:
    return [annotations_file(root, part) for part in ("train2014", "val2014")]


def test_made_of_frequent_answers_in_the_order_of_their_appearance(tmp_path: Path) -> None:
    train = [*["Rare"] * 8, *["two"] * 4, *["the dog"] * 9, *["It's a cat"] * 5]
    val = [*["Cat!"] * 20, *["2"] * 5, *["it's cat"] * 4]
    for part, answers in (("train2014", train), ("val2014", val)):
        write_annotations(tmp_path, part, [annotation_row(n, [""] * 10, most=a) for n, a in enumerate(answers)])
    # "two" and "2" are one answer, first met before "dog"; "rare" lacks one; "it's a cat" comes after both.
    assert read_vocabulary(tmp_path, files(tmp_path)).answers == ("2", "dog", "it's cat", "cat")
    assert has_vocabulary(tmp_path, files(tmp_path))
    write_labels(tmp_path, ["b", "a"])
    assert read_vocabulary(tmp_path, files(tmp_path)).answers == ("b", "a")  # what a released head goes by


def test_targets_count_raw_answers() -> None:
    vocabulary = Vocabulary(("2", "cat", "dog", "cow", "bird"))
    given = ["bird", "2", "two", "two", "Cat", "cat", "cat", "dog", "dog", "dog"]
    assert vocabulary.targets(given) == {"bird": 0.3, "2": 0.3, "cat": 0.6, "dog": 0.9}
    assert vocabulary.targets(["cow"] * 4) == vocabulary.targets(["cow"] * 10) == {"cow": 1.0}
    assert vocabulary.targets(["fish"] * 10) == {}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            '{"answer": "a", "label": 0}\n{"answer": "b", "label": 2}',
            r"line 2 should have the label 1 .*, not 2 and 'b'",
        ),
        ('{"answer": "a", "label": 0}\n{"answer": "a", "label": 1}', r"line 2 should have .* a new answer"),
        ('{"answer": "a"}', r"line 1 has no field 'label'"),
        ("a\t0", r"answer2label.txt, line 1 \(the answers by label\) is not JSON: 'a\\t0'"),
        ("", r"answer2label.txt is empty"),
    ],
)
def test_a_label_file_out_of_order(tmp_path: Path, lines: str, told: str) -> None:
    (tmp_path / "answer2label.txt").write_text(lines)
    with pytest.raises(InputError, match=told):
        read_vocabulary(tmp_path, files(tmp_path))


def test_annotations_that_yield_no_vocabulary(tmp_path: Path) -> None:
    write_annotations(tmp_path, "train2014", [annotation_row(n, ["a cat"] * 10) for n in range(8)])
    assert not has_vocabulary(tmp_path, files(tmp_path))
    with pytest.raises(InputError, match=r"v2_mscoco_val2014_annotations.json is absent. Put it there, or an answer2l"):
        read_vocabulary(tmp_path, files(tmp_path))
    write_annotations(tmp_path, "val2014", [])
    with pytest.raises(InputError, match=r"No answer occurs 9 times in .*train2014"):
        read_vocabulary(tmp_path, files(tmp_path))
    write_annotations(tmp_path, "val2014", [{"question_id": 5, "answers": []}])
    with pytest.raises(InputError, match=r"val2014.*annotation 0 \(from 0\) has no text as 'multiple_choice_answer'"):
        read_vocabulary(tmp_path, files(tmp_path))
