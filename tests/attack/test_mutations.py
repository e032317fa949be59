"""The fixed part of the mutations: the same damage in each run."""

from __future__ import annotations

import pytest

from tests.attack.attempts import Tally
from tests.attack.fuzz import attack
from tests.attack.targets import TARGETS, Target

EACH = 25  # mutations of a target


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_damaged_files_are_held_or_told_and_change_nothing_in_silence(target: Target) -> None:
    tally = Tally()
    attack(target, range(EACH), tally)
    assert not tally.bad, "\n".join([tally.table(), *tally.bad])
