"""The device of the cluster's nodes, which a login node cannot know: one short job asks for it, once for its fields."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from backbones.errors import InputError
from harness.grids import store
from harness.grids.slurm import squeue
from harness.grids.slurm.fields import Fields
from harness.grids.slurm.job import probe
from harness.grids.slurm.squeue import SETTLED
from harness.grids.slurm.submission import Submission
from harness.hardware import Hardware
from harness.progress import note

MINUTES = 5  # that the job may take
LOOK_EVERY = 2.0  # seconds


def of(fields: Fields, submission: Submission, folder: Path) -> Hardware:
    """Device that jobs with these fields compute on, kept in `folder`.

    Raises:
        RefusedError: SLURM does not take the job.
        InputError: it ended without an answer.
    """
    given = json.dumps(dict(fields.others), sort_keys=True)
    path = folder / f"{hashlib.sha256(given.encode()).hexdigest()[:16]}.json"
    if (known := store.read(path)) is None:
        _ask(replace(fields, minutes=MINUTES, nodes=1), submission, path)
        known = store.read(path)
    return Hardware(**{**known, "gpus": tuple(known["gpus"])})


def _ask(fields: Fields, submission: Submission, path: Path) -> None:
    (name,) = submission.submit([partial(probe, path)], fields=fields)
    note(f"SLURM's job {name} looks which device the cells get; the plan follows when it has run.")
    deadline = None
    while not path.is_file():
        time.sleep(LOOK_EVERY)
        try:
            state = squeue.states().get(name)
        except squeue.SilentError:
            continue
        if state is not None and not state.ended:
            deadline = None
            continue
        deadline = deadline or time.monotonic() + SETTLED
        if time.monotonic() > deadline and not path.is_file():
            why = squeue.ENDED[state.state] if state else "it is gone"
            raise InputError(
                f"SLURM's job {name}, which looks which device the cells get, has no answer: {why}. Its log is in "
                f"{submission.folder}."
            )
