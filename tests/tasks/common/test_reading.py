from __future__ import annotations

import gc
from pathlib import Path

import pytest

from backbones import InputError
from tasks.common.reading import collector_paused, field, read_json, read_lines


def test_only_a_released_file_is_to_be_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[")
    with pytest.raises(InputError, match=r"Fix the file, or download it again if it is a released one\.$"):
        read_json(tmp_path / "a.json", what="rows")
    with pytest.raises(InputError, match=r"no field 'b': {'a': 1}\. Fix the file, or download it .* released one\.$"):
        field({"a": 1}, "b", where="a.json, row 1")


def test_objects_are_replaced_as_they_are_read_the_inner_ones_first(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"rows": [{"keep": 1, "big": [2, 3]}, {"keep": {"keep": 4}}]}')
    read = read_json(path, what="rows", shrink=lambda item: item.get("keep", item))
    assert read == {"rows": [1, 4]}


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_left_as_it_was(on: bool) -> None:
    def fail() -> None:
        with collector_paused():
            assert not gc.isenabled()
            raise ValueError("broken file")

    try:
        (gc.enable if on else gc.disable)()
        with pytest.raises(ValueError, match="broken file"):
            fail()
        assert gc.isenabled() == on
    finally:
        gc.enable()


def test_lines_say_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n[2]\n')
    assert list(read_lines(path, what="rows")) == [(f"{path}, line 1", {"a": 1}), (f"{path}, line 3", [2])]


def test_a_line_that_is_not_json_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2\n')
    with pytest.raises(InputError, match=r"""a\.jsonl, line 3 \(rows\) is not JSON: '{"a": 2'\. Fix"""):
        list(read_lines(path, what="rows"))


@pytest.mark.parametrize(("content", "complaint"), [(None, r"\(rows\) is absent"), (b"\xff\n", "cannot be read")])
def test_lines_that_cannot_be_read(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        list(read_lines(path, what="rows"))
