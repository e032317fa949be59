"""Submission of jobs to SLURM through submitit, as arrays of those that wait for the same stages."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from harness.grids import store
from harness.grids.jobs import Job
from harness.grids.slurm.fields import Fields
from harness.grids.slurm.job import WARNED, GridJob
from harness.workdir import write_json

PROCESS = "harness.grids.slurm.process"  # module that the processes of a job run
LARGEST = 1000  # elements of an array; SLURM's MaxArraySize is 1001 by default, and is above the largest index
REQUEUES = 10**6  # submitit's limit; `GridJob` decides by what a job has saved, and each job has an end
ID = "slurm.json"  # in a job's folder: its name in SLURM


class RefusedError(InputError):
    """Jobs that SLURM does not take."""


class Submission:
    """Submit jobs with the same fields. folder: for submitit's files; code: that jobs import; at_once: of an array."""

    def __init__(self, fields: Fields, *, folder: Path, code: Path, name: str, at_once: int | None) -> None:
        self._fields, self._folder, self._code, self.name, self._at_once = fields, folder, code, name, at_once

    def grid(self, jobs: Sequence[Job], after: Sequence[str]) -> dict[str, str]:
        """Submit jobs that start when others in SLURM have ended well; returns the names in SLURM by key.

        Args:
            after: names of the others.

        Raises:
            RefusedError: SLURM does not take them.
        """
        calls = [self._call(job) for job in jobs]
        names = self.submit(calls, fields=self._fields, after=after)
        for job, name in zip(jobs, names, strict=True):
            # A failure of before does not count from now on; `run_cell` would forget it only when the job starts.
            (job.path / store.FAILED).unlink(missing_ok=True)
            write_json(job.path / ID, {"id": name, "name": self.name})
        return {job.key: name for job, name in zip(jobs, names, strict=True)}

    def submit(self, calls: Sequence[Callable[[], Any]], *, fields: Fields, after: Sequence[str] = ()) -> list[str]:
        """Submit calls as one array, or as a job if there is one; returns their names in SLURM."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError  # the first is sbatch's

        others: dict[str, Any] = {"requeue": True, **fields.others}
        if after:
            others |= {"dependency": f"afterok:{':'.join(after)}", "kill-on-invalid-dep": "yes"}
        executor = submitit.SlurmExecutor(self._folder, max_num_timeout=REQUEUES)
        executor.update_parameters(
            job_name=self.name, time=fields.minutes, nodes=fields.nodes, ntasks_per_node=1, wckey=None,
            signal_delay_s=WARNED, stderr_to_stdout=True, setup=self._setup(),
            array_parallelism=self._at_once or len(calls), additional_parameters=others,
        )  # fmt: skip
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what the error says
                submitted = executor.submit_array(calls)
        except (FailedJobError, FailedSubmissionError) as error:
            raise RefusedError(
                f"SLURM does not take the jobs ({' '.join(str(error).split())}). Change the fields that it names, "
                "--slurm KEY=VALUE, and run the same command again."
            ) from error
        return [job.job_id for job in submitted]

    def _call(self, job: Job) -> GridJob:
        specification = self._folder / "specifications" / f"{job.key}.json"
        write_json(specification, job.specification())
        return GridJob(specification, minutes=self._fields.minutes, module=PROCESS)

    def _setup(self) -> list[str]:
        """Shell commands of the job before srun.

        Python imports from the copy of the sources, and not from the working folder; and srun gets the cores of a task
        again, which it does not take from sbatch (man srun, since 22.05).
        """
        path = os.pathsep.join([str(self._code), *filter(None, [os.environ.get("PYTHONPATH")])])
        cores = '[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK'
        return [f"export PYTHONPATH={shlex.quote(path)} PYTHONSAFEPATH=1", cores]


def batches(
    jobs: Sequence[Job], *, done: set[str], running: Mapping[str, str]
) -> Iterator[tuple[list[Job], list[str]]]:
    """Group jobs into arrays, with the keys of the stages that each array waits for, stages first.

    Args:
        jobs: in the order that they need; each stage that is not done is among them or running.
        done: keys. running: those of jobs in SLURM.
    """
    left, known = list(jobs), done | set(running)
    while left:
        ready = [job for job in left if known.issuperset(job.needs)]
        if not ready:
            return
        groups: dict[tuple[str, ...], list[Job]] = {}
        for job in ready:
            groups.setdefault(tuple(sorted(set(job.needs) - done)), []).append(job)
        for needs, group in groups.items():
            for first in range(0, len(group), LARGEST):
                yield group[first : first + LARGEST], list(needs)
        known |= {job.key for job in ready}
        left = [job for job in left if job.key not in known]
