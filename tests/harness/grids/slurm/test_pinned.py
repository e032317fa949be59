"""The copy of the sources that jobs in SLURM import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.grids import identity
from harness.grids.slurm import pinned

pytestmark = pytest.mark.spawn


def test_a_copy_is_the_same_code_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = pinned.copy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [code.name]
    before = (code / "harness" / "cli.py").stat().st_mtime_ns
    assert pinned.copy(tmp_path) == code
    assert (code / "harness" / "cli.py").stat().st_mtime_ns == before
    script = "from harness.grids import identity; from harness import provenance\n"
    script += "print(identity.PACKAGE, identity.code()['source'], provenance.package_commit())"
    environment = {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1", "PATH": "/usr/bin:/bin"}
    told = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    place, source, commit = told.stdout.split()
    assert (Path(place), source) == (code.resolve(), identity.code()["source"])
    assert commit == pinned.provenance.package_commit()


def test_changed_sources_are_another_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in pinned.ROOMS:
        (tmp_path / "package" / room).mkdir(parents=True)
    monkeypatch.setattr(pinned, "PACKAGE", tmp_path / "package")
    file = tmp_path / "package" / "leaderboards" / "a.py"
    file.write_text("x = 1\n")
    one = pinned.copy(tmp_path / "code")
    file.write_text("x = 2\n")
    other = pinned.copy(tmp_path / "code")
    assert one != other and (one / "leaderboards" / "a.py").read_text() == "x = 1\n"
