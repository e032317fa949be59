from __future__ import annotations

import gc
from pathlib import Path

import pytest

from tasks.reading import collector_paused, read_json


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
