"""Mutations of every target's files, by seeds."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest import mock

from tasks import bootstrap
from tests.attack.attempts import LIMIT, Tally, Value, attempts
from tests.attack.mutations import mutated
from tests.attack.targets import Target


def attack(target: Target, seeds: Iterable[int], tally: Tally, *, limit: float = LIMIT) -> None:
    """Damage one file of a target for each seed, and use all of them."""
    few = mock.patch.dict(bootstrap.replicates.__kwdefaults__, {"resamples": 20})
    with few, tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        base.mkdir()
        target.make(base)
        files = sorted(path for path in base.glob(target.damaged) if path.is_file())
        assert files, target
        expected = target.use(Path(shutil.copytree(base, Path(place) / "whole")))
        assert target.use(Path(shutil.copytree(base, Path(place) / "again"))) == expected, target
        calls, names = [], []
        for seed in seeds:
            rng = random.Random(f"{target.name} {seed}")
            file = rng.choice(files)
            content, damage = mutated(file.read_bytes(), rng)
            names.append(f"seed {seed}, {file.name} {damage}")
            calls.append(_call(target, base, Path(place) / str(seed), file.relative_to(base), content))
        for name, outcome in zip(names, attempts(calls, expected=expected, limit=limit), strict=True):
            tally.add(target.name, name, outcome)


def _call(target: Target, base: Path, work: Path, file: Path, content: bytes) -> Callable[[], Value]:
    def call() -> Value:
        shutil.copytree(base, work)
        (work / file).write_bytes(content)
        try:
            return target.use(work)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    return call
