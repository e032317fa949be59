from __future__ import annotations

import pytest

from backbones.errors import InputError
from tasks.captioning import ptb
from tests.tasks.captioning.conftest import FakeJava


def test_tokens_of_groups() -> None:
    first, second, none = ptb.tokenize(["A man's dog, the U.S.", "Hello (there)!"], ["..."], [])
    assert first == ["a man 's dog the u.s.", "hello -lrb- there -rrb-"]  # the list of what goes has them in capitals
    assert second == [""]
    assert none == []


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\v", "\f", "\u2028", "\u2029"])
def test_no_character_moves_the_next_captions(separator: str) -> None:
    (tokens,) = ptb.tokenize([f"one{separator}two", "three"])
    assert tokens == ["one two", "three"]


def test_odd_captions_keep_their_place() -> None:
    texts = ["", "a", "  ", "a ||| b", "caf\xe9 \u65e5\u672c \U0001f600", "x\x00y", "\x85", "\ud800", "end", ""]
    (tokens,) = ptb.tokenize(texts)
    assert len(tokens) == len(texts)
    assert [tokens[place] for place in (0, 1, 2, 3, 8, 9)] == ["", "a", "", "a | | | b", "end", ""]
    assert tokens[4].startswith("caf\xe9 \u65e5\u672c")


def test_a_group_does_not_depend_on_the_next_one() -> None:
    """The tokenizer looks ahead, beyond the end of a line: "no." before a number is "number"."""
    candidates, references = ptb.tokenize(["a sign that says no."], ["5 dogs"])
    assert (candidates, references) == (["a sign that says no"], ["5 dogs"])
    assert ptb.tokenize(["a sign that says no.", "5 dogs"]) == [["a sign that says no.", "5 dogs"]]


@pytest.mark.parametrize(
    "body",
    [
        "",  # no answer at all
        "open('group0.tokens', 'w').write('a dog')",  # one line of two
        "open('group0.tokens', 'w').write('a\\nb\\nc')",
    ],
)
def test_a_tokenizer_that_loses_lines(fake_java: FakeJava, body: str) -> None:
    fake_java(body)
    with pytest.raises(InputError, match=r"^The PTB tokenizer \(Java\) returned [013] lines for 2 captions"):
        ptb.tokenize(["a dog", "a cat"])
