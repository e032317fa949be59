"""Tables in narrow and wide consoles."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.output import rows_table, table
from tests.support.rows import of_run

ROWS = [
    of_run("a", task="vqav2", split="rest_val", metric="accuracy_number", value=40.0, low=12.5, high=75.0, n=48),
    of_run("b", task="flickr30k_retrieval", metric="text_to_image_R10", backbone="beit3_base_patch16_384"),
]


def drawn(show: object, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show(console)
    return console.file.getvalue().replace("\u00a0", " ").splitlines()


@pytest.mark.spawn
@pytest.mark.parametrize("width", [60, 80, 132])
def test_result_rows_keep_names_numbers_and_intervals_on_one_line(width: int) -> None:
    lines = drawn(rows_table("Results", ROWS), width)
    assert max(map(len, lines)) <= width
    (first,) = (line for line in lines if "accuracy_number" in line)
    assert "40.000 %" in first and "12.500 – 75.000" in first and "48" in first
    (second,) = (line for line in lines if "text_to_image_R10" in line)
    assert "85.100 – 85.700" in second
    assert any("flickr30k_retrieval" in line and "beit3_base_patch16_384" in line for line in lines)


def test_cells_wrap_between_words_and_the_widest_column_gives_way() -> None:
    rows = [("flickr30k_retrieval", "ok", "a finding that is longer than the console is wide and has to go on")]
    lines = drawn(table("Data", ("task", "", "finding"), rows), 50)
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 50
    assert "flickr30k_retrieval ok a finding that is longer than the console is wide and has to go on" in text


def test_a_word_that_is_wider_than_the_console_is_folded_and_not_lost() -> None:
    path = "/data/" + "x" * 70
    lines = drawn(table("Data", ("", "finding"), [("ok", path)]), 40)
    assert max(map(len, lines)) <= 40
    assert path in "".join(line.removeprefix(" ok").strip() for line in lines)


WIDE = ("name", *(f"measurement{number}" for number in range(8)))


def test_columns_that_do_not_fit_side_by_side_go_into_tables_of_their_own() -> None:
    rows = [("one", *(f"value{number}" for number in range(8))), ("two", *(f"other{number}" for number in range(8)))]
    lines = drawn(table("Data", WIDE, rows), 60)
    assert max(map(len, lines)) <= 60
    assert [line.split()[0] for line in lines if line.split()].count("name") == 3
    for row in (WIDE, *rows):
        shown = [line.split() for line in lines if line.split()[:1] == [row[0]]]
        assert [word for words in shown for word in words[1:]] == list(row[1:])


def test_words_are_parted_at_hyphens_before_columns_are() -> None:
    lines = drawn(table("Data", ("kind", "of"), [("vision-language", "classification")]), 26)
    assert [line.split() for line in lines[-3:]] == [["vision-", "classification"], ["language"], []]


def test_emphasis_stays_with_its_cell_in_a_divided_table() -> None:
    console = Console(file=io.StringIO(), width=40, force_terminal=True, color_system="standard")
    table("Data", WIDE, [("one", *(f"value{number}" for number in range(8)))], bold={(0, 5)})(console)
    assert "\x1b[1mvalue4" in console.file.getvalue()
    assert console.file.getvalue().count("\x1b[1mvalue") == 1
