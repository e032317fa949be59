"""Results of other code, which count for a grid where the user says why they may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.grids import identity as identities
from harness.grids import store
from harness.grids.jobs import Job
from harness.workdir import write_json

ACCEPTED = "accepted.json"  # in a job's folder: the reason for each code that its result counts for


class CodeChange:
    """Search for jobs that differ from planned ones in the code alone.

    Args:
        reason: why they count; empty where they do not, unless a reason was given before.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self._older: dict[Path, dict[str, list[Path]]] = {}
        self._accepted: list[tuple[Path, str, str]] = []
        self.ignored = 0  # finished jobs of other code that do not count

    def counting(self, job: Job) -> Job:
        """The job, or the one of other code that counts for it, under the name of the planned one."""
        if (job.path / store.SPECIFICATION).is_file():
            return job
        code = identities.key(job.identity[identities.CODE])
        for folder in self._of_other_code(job):
            known = store.read(folder / ACCEPTED) or {}
            reason = self._reason or known.get(code, "")
            older = _older(job, folder, reason)
            if reason:
                self._accepted.append((folder, code, reason))
                return older
            self.ignored += store.look(older).state == "done"
        return job

    def record(self) -> None:
        """Write down what counts, so that the next call needs no reason."""
        for folder, code, reason in self._accepted:
            known = store.read(folder / ACCEPTED) or {}
            if known.get(code) != reason:
                write_json(folder / ACCEPTED, {**known, code: reason})

    def _of_other_code(self, job: Job) -> list[Path]:
        """The folders beside a job's whose identity is the same but for the code, finished ones first."""
        beside = job.path.parent
        if beside not in self._older:
            found: dict[str, list[Path]] = {}
            for folder, stored in store.stored_jobs(beside):
                key = identities.key(identities.without_code(stored.get("identity", {})))
                found.setdefault(key, []).append(folder)
            self._older[beside] = found
        same = self._older[beside].get(identities.key(identities.without_code(job.identity)), [])
        return sorted(same, key=lambda folder: (not (folder / store.DONE).exists(), folder))


def _older(job: Job, folder: Path, reason: str) -> Job:
    stored: Mapping[str, Any] = store.read(folder / store.SPECIFICATION) or {}
    return replace(
        job, identity=stored["identity"], key=stored["key"], folder=str(folder), needs=tuple(stored["needs"]),
        options=stored["options"], code_change=reason,
    )  # fmt: skip
