from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tasks.vqa.metrics import accuracy, leave_one_out, normalize_word


def test_normalisation_equals_the_official_one(reference: Path) -> None:
    pairs = json.loads((reference / "vqa_normalize_word.json").read_text())
    assert pairs
    for raw, normal in pairs:
        assert normalize_word(raw) == normal, raw


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("wouldntve", "wouldntve"),  # only one apostrophe may be missing
        ("wouldn'tve", "wouldn't've"),
        ("somebody'd", "somebodyd"),  # the official list has this one the wrong way round
        ("lets", "lets"),  # and these not at all
        ("shes", "shes"),
        ("a.b", "ab"),
        ("." * 40, "." * 8),  # 32 periods go
        ("yes/no, maybe", "yes no maybe"),  # a mark beside a space goes, the others become spaces
        ("1,000 men/women", "1000 menwomen"),  # but all go where a comma stands between digits
    ],
)
def test_quirks_of_the_official_code_are_kept(raw: str, normal: str) -> None:
    assert normalize_word(raw) == normal


def test_the_published_vocabulary_is_in_normal_form(truth: Path) -> None:
    """3,129 answers that others made of the same annotations: what we would change or lack, they have otherwise."""
    published = json.loads((truth / "vqa" / "lxmert_trainval_label2ans.json").read_text())
    assert [answer for answer in published if normalize_word(answer) != answer] == []
    annotations = json.loads((truth / "vqa" / "vqav2sub_valid_annotations.json").read_text())["annotations"]
    counts = Counter(normalize_word(row["multiple_choice_answer"]) for row in annotations)
    frequent = {answer for answer, count in counts.items() if count >= 9}
    assert len(frequent) > 50
    assert frequent <= set(published)


def test_accuracy_by_the_number_of_matches() -> None:
    truth = ["cat", "dog", "dog", "bird", "bird", "bird", "cow", "cow", "cow", "cow"]
    found = [accuracy(answer, truth) for answer in ("fish", "cat", "dog", "bird", "cow")]
    assert found == pytest.approx([0, 0.3, 0.6, 0.9, 1])
    assert [leave_one_out(matches, of=10) for matches in (4, 5, 10)] == [1, 1, 1]


def test_answers_are_normalised_only_where_people_differ() -> None:
    assert accuracy("The YES.", ["yes"] * 10) == 0
    assert accuracy("The YES.", ["yes"] * 9 + ["no"]) == 1
    assert accuracy("yes", ["Yes."] * 10) == 0
    # Line ends, tabs and outer spaces go in any case, before it is seen whether all agree.
    assert accuracy(" yes\n", ["yes"] * 5 + ["yes\t"] * 5) == 1
    assert accuracy("The yes", ["yes"] * 5 + [" yes"] * 5) == 0
    assert accuracy("a\tred\ncar", ["red car"] * 9 + ["car"]) == 1


def test_different_spellings_of_an_answer_count_together() -> None:
    assert accuracy("two", ["2", "two", "a two", "3", "4", "5", "6", "7", "8", "9"]) == pytest.approx(0.9)
    assert accuracy("dont", ["don't", "dont", "no", "no", "yes", "b", "c", "d", "e", "f"]) == pytest.approx(0.6)
