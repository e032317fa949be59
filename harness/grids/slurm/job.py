"""One job of a grid inside SLURM: what `srun` starts on each of its nodes (submitit calls it by its pickle)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness import hardware, job_process
from harness.grids import jobs, store, worker
from harness.grids.jobs import Job
from harness.grids.queue import GRACE, LOOK_EVERY
from harness.workdir import write_json

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

WARNED = 90  # seconds before its time limit that SLURM signals a job
PORTS = range(20_000, 60_000)  # for the rendezvous of the nodes of a job
STARTS = "slurm-starts.json"  # in a job's folder: seconds of the starts that were requeued
GROWS = ("*.pth", "*.safetensors", "predictions/**/*")  # files by which a job is seen to get on


class GridJob:
    """Run a job of a grid in processes of its own, on all nodes that SLURM gave it; submitit's handler requeues it.

    specification: its file; a job that starts again reads it again, and finds its newest checkpoint in its folder.
    minutes: time limit of each start. module: that the processes run, with the file as argument.
    """

    def __init__(self, specification: Path, *, minutes: int, module: str) -> None:
        self._specification, self._minutes, self._module = specification, minutes, module
        self._process: subprocess.Popen | None = None
        self._begun = 0.0
        self._before: set[tuple[str, int]] = set()
        self._ending = False  # SLURM is about to kill the job

    def __call__(self) -> None:
        """Run it to its end; the process ends with status 1 where the job failed: those after it do not start then."""
        job = self._job()
        signal.signal(signal.SIGTERM, self._note_end)
        self._begun, self._before = time.monotonic(), _progress(job)
        job.path.mkdir(parents=True, exist_ok=True)
        with (job.path / store.LOG).open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | _threads(), preexec_fn=_as_child,
            )  # fmt: skip
            try:
                reason = self._outcome(job)
            finally:
                self._stop()
        if not reason:
            return
        print(reason, file=sys.stderr)
        known = self._process.returncode == worker.BUSY or store.look(job).state in ("failed", "foreign")
        if _first_node() and not known:
            store.fail(job, reason)
        sys.exit(1)

    def checkpoint(self) -> DelayedSubmission | None:
        """Stop, and say how to go on after a requeue: called on preemption and shortly before the time limit."""
        from submitit.helpers import DelayedSubmission

        self._stop()
        job, seconds = self._job(), time.monotonic() - self._begun
        if reason := self._no_requeue(job, seconds):
            store.fail(job, reason)
            return None
        write_json(job.path / STARTS, {"seconds": _spent(job) + seconds})
        return DelayedSubmission(GridJob(self._specification, minutes=self._minutes, module=self._module))

    def _job(self) -> Job:
        return jobs.of(json.loads(self._specification.read_text(encoding="utf-8")))

    def _command(self) -> list[str]:
        run = ["-m", self._module, str(self._specification)]
        nodes, processes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1")), _processes()
        if nodes * processes == 1:
            return [sys.executable, *run]
        # A requeued job has the same id: its number of restarts keeps the two apart.
        name = f"{os.environ['SLURM_JOB_ID']}-{os.environ.get('SLURM_RESTART_COUNT', '0')}"
        port = PORTS[int(os.environ["SLURM_JOB_ID"]) % len(PORTS)]
        meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint={os.environ['SLURM_LAUNCH_NODE_IPADDR']}:{port}"]
        start = [f"--nnodes={nodes}", f"--nproc-per-node={processes}", f"--rdzv-id={name}", *meeting]
        return [sys.executable, "-m", "torch.distributed.run", *start, *run]

    def _outcome(self, job: Job) -> str:
        """Wait for the processes; returns why the job has no result, empty where it has one."""
        spent = _spent(job)
        while (status := self._process.poll()) is None:
            if job.minutes and spent + time.monotonic() - self._begun > 60 * job.minutes:
                self._stop()
                return jobs.over_budget(job)
            time.sleep(LOOK_EVERY)
        while status and self._ending:  # a job that ends by itself now would not be requeued
            time.sleep(LOOK_EVERY)
        return job_process.ending(job.path / store.LOG, status) if status else ""

    def _no_requeue(self, job: Job, seconds: float) -> str:
        """The reason why a job that was stopped does not go on later; empty where it does."""
        if seconds > 60 * self._minutes - 2 * WARNED and _progress(job) == self._before:
            return (
                f"it reached its time limit of {self._minutes} minutes without having saved anything, and would again. "
                "Give more, --slurm time=…, and --retry-failed."
            )
        if shutil.which("scontrol") is None:
            return (
                f"it was stopped by SLURM, and cannot be requeued: there is no scontrol on {os.uname().nodename}. "
                "With --retry-failed it goes on from its newest checkpoint."
            )
        return ""

    def _note_end(self, *_: object) -> None:
        """Remember SIGTERM, which all processes get on preemption and cancellation, some time before SIGKILL."""
        self._ending = True

    def _stop(self) -> None:
        """End the processes; torchrun passes the first signal on."""
        for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                if self._process.poll() is None or number == signal.SIGKILL:
                    os.killpg(self._process.pid, number)
                self._process.wait(seconds)


def probe(path: Path) -> None:
    """Write the hardware of this machine to a file."""
    write_json(path, asdict(hardware.found()))


def _as_child() -> None:
    """Die with this process, and leave to it what SLURM signals to all; ran between fork and exec."""
    from submitit import JobEnvironment

    job_process.end_with_parent()
    signal.signal(getattr(signal, f"SIG{JobEnvironment.USR_SIG}"), signal.SIG_IGN)


def _first_node() -> bool:
    return os.environ.get("SLURM_NODEID", "0") == "0"


def _processes() -> int:
    """Number of processes on this node: one for each GPU, or one."""
    return max(1, len(hardware.found().gpus))


def _threads() -> dict[str, str]:
    """Share of the node's cores of each process, as threads, unless the user has decided."""
    cores = int(os.environ.get("SLURM_CPUS_ON_NODE", "1")) // _processes()
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores)))}


def _progress(job: Job) -> set[tuple[str, int]]:
    """Files by which a job gets on, with their times."""
    found = {path for pattern in GROWS for path in job.path.rglob(pattern) if path.is_file()}
    return {(str(path), path.stat().st_mtime_ns) for path in found}


def _spent(job: Job) -> float:
    """Seconds of the starts of a job that were requeued."""
    return float((store.read(job.path / STARTS) or {}).get("seconds", 0.0))
