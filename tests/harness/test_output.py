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
