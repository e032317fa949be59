"""The logs of a training: one line per log, none twice after an interruption, and the services that were asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import distributed, logs


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / logs.FILE).read_text().splitlines()]


def test_a_resumed_training_replaces_what_it_had_logged_of_later_steps(tmp_path: Path) -> None:
    with logs.opened(tmp_path, (), step=0) as write:
        for step in (20, 40, 60):
            write({"loss": step / 10}, step)
    with logs.opened(tmp_path, (), step=45) as write:
        write({"loss": 0.5, "val/top1": 10.0}, 60)
        assert lines(tmp_path)[-1] == {"step": 60, "loss": 0.5, "val/top1": 10.0}  # written at once
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(20, 2.0), (40, 4.0), (60, 0.5)]


def test_other_processes_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    with logs.opened(tmp_path / "log", (), step=0) as write:
        write({"loss": 1.0}, 1)
    assert not (tmp_path / "log").exists()


def test_scalars_go_to_wandb_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []

    class Run:
        def __enter__(self) -> Run:
            return self

        def __exit__(self, *_: object) -> None:
            logged.append("finished")

        def log(self, values: dict, *, step: int) -> None:
            logged.append((step, values))

    fake = SimpleNamespace(init=lambda **options: logged.append(options) or Run(), __spec__=object())
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with logs.opened(tmp_path, ("wandb",), step=0) as write:
        write({"loss": 1.0}, 20)
    assert logged == [{"dir": str(tmp_path)}, (20, {"loss": 1.0}), "finished"]
