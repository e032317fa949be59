"""States of jobs in SLURM, as squeue tells them."""

from __future__ import annotations

import getpass
import subprocess
from typing import NamedTuple

from backbones.errors import InputError

# States of jobs that will not run again (man squeue, JOB STATE CODES), with the reason for a user.
ENDED = {
    "COMPLETED": "it ended in SLURM without a result",
    "FAILED": "it failed in SLURM",
    "CANCELLED": "it was cancelled in SLURM",
    "TIMEOUT": "SLURM ended it at its time limit before it could be requeued. Give more, --slurm time=…",
    "NODE_FAIL": "its node was lost, and SLURM did not requeue it",
    "BOOT_FAIL": "its node did not start",
    "OUT_OF_MEMORY": "it used more memory than was asked for. Give more, --slurm mem=…",
    "PREEMPTED": "another job took its place, and SLURM did not requeue it",
    "DEADLINE": "its deadline passed",
    "REVOKED": "another cluster took it",
}
SETTLED = 60.0  # seconds after which a job that ended has no result: network file systems show files late
TIMEOUT = 60  # seconds that squeue may take


class State(NamedTuple):
    """State of a job: in SLURM's words, with the reason of one that waits, and the job's name."""

    state: str
    reason: str
    name: str

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class SilentError(Exception):
    """An answer that squeue does not give, since the controller is away."""


def states() -> dict[str, State]:
    """The user's jobs, those that ended lately too, by names such as 12 or 12_3.

    Raises:
        SilentError: no answer.
    """
    command = ["squeue", f"--user={getpass.getuser()}", "--array", "--noheader", "--states=all"]
    try:
        told = subprocess.run(
            [*command, "--format=%i|%T|%r|%j"], capture_output=True, text=True, check=True, timeout=TIMEOUT
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip()
        raise SilentError(" ".join(said.split()) or "no answer") from error
    lines = (line.strip().split("|", 3) for line in told.splitlines() if line.count("|") >= 3)
    return {name: State(state, reason, job) for name, state, reason, job in lines}


def require_states() -> dict[str, State]:
    """The user's jobs, before anything is submitted.

    Raises:
        InputError: no answer.
    """
    try:
        return states()
    except SilentError as error:
        raise InputError(
            f"squeue does not answer ({error}), so nothing is submitted. Run the same command again when it does."
        ) from error
