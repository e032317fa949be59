from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from backbones import InputError
from tasks.common import streaming
from tasks.common.streaming import json_lists

CONTENT = {
    "info": {"year": 2017, "lists": [1, [2]]},
    "images": [{"id": 1, "name": 'a \\ "b" ü \U0001f600'}, {"id": -12345678901, "size": [1.5e-3, 2]}],
    "empty": [],
    "flags": [True, False, None, 12, 3.25, "x", [[]], {}],
    "after": 7,
}


def read(path: Path) -> dict[str, Any]:
    return {name: rows if rows is None else list(rows) for name, rows in json_lists(path, what="a file")}


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"ensure_ascii": False, "separators": (",", ":")}])
def test_the_elements_are_those_of_the_file_wherever_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, options: dict
) -> None:
    monkeypatch.setattr(streaming, "_CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(CONTENT, **options) + "\n", encoding="utf-8")
    found = read(path)
    assert list(found) == list(CONTENT)
    assert found == CONTENT | {"info": None, "after": None}
    assert [type(value) for value in found["flags"]] == [type(value) for value in CONTENT["flags"]]


def test_elements_that_nobody_asks_for_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(CONTENT))
    found = {}
    for name, rows in json_lists(path, what="a file"):
        if name == "images":
            found["first"] = next(rows)
        if name == "flags":
            found["flags"] = list(rows)
    assert found == {"first": CONTENT["images"][0], "flags": CONTENT["flags"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot be read: Expecting '{', an object"),
        ("[1]", "cannot be read: Expecting '{', an object"),
        ("{", "cannot be read: Expecting value"),
        ('{"a": [1, 2', r"cannot be read: Expecting ',' \(character 11\)"),
        ('{"a": [1, 2,]}', "cannot be read: Expecting value"),
        ('{"a": [1 2]}', r"cannot be read: Expecting ',' \(character 9\)"),
        ('{"a": [1], "b" 2}', "cannot be read: Expecting ':'"),
        ('{"a": ["half', "cannot be read: Unterminated string"),
        ('{"a": [tru', "cannot be read: Expecting value"),
        ('{"a": [1]} 2', "cannot be read: Extra data"),
        ('{"a": ["\udcff"]}', "cannot be read: .*invalid start byte"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1000])
def test_what_is_not_json_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str, chunk: int
) -> None:
    monkeypatch.setattr(streaming, "_CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=rf"a\.json \(a file\) .*{told}"):
        read(path)


def test_a_wrong_element_is_told_before_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [{"x": 1}, {"x" 2}, ' + " " * 20 + '"never read')
    rows = next(json_lists(path, what="a file"))[1]
    assert next(rows) == {"x": 1}
    with pytest.raises(InputError, match="Expecting ':' delimiter"):
        next(rows)


@pytest.mark.slow
def test_no_more_is_in_memory_than_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_CHUNK", 10_000)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [{"number": number} for number in range(100_000)]}))
    tracemalloc.start()
    total = sum(row["number"] for _, rows in json_lists(path, what="a file") for row in rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == sum(range(100_000))
    assert peak < 200_000 < path.stat().st_size / 8
