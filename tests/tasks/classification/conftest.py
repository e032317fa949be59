from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folders(colours: Path, tmp_path: Path) -> Path:
    """A copy of the colour images that a test may damage."""
    return Path(shutil.copytree(colours, tmp_path / "data"))
