"""Output of a benchmark, for its test."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest


def answered(main: Callable, capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, dict]:
    """A benchmark's exit status and its JSON, which is all that it may print."""
    status = main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)
