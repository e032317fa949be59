from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.reasoning.files import statements


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = statements(tmp_path / "nlvr2", "train", sets=4)
    return statements(statements(root, "dev", sets=3), "test-P", sets=3)
