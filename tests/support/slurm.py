"""A SLURM of two nodes on this machine for a test: controller, node daemons and munge, on loopback, in one folder."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.processes import free_port

DAEMONS = ("munged", "slurmctld", "slurmd")
PROGRAMS = (*DAEMONS, "sbatch", "squeue", "scontrol", "scancel", "srun")
NODES = ("n1", "n2")
STARTS_WITHIN, ENDS_WITHIN = 20.0, 10.0  # seconds
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPort={controller}
SlurmdParameters=config_overrides
SlurmdTimeout=10
ReturnToService=2
JobRequeue=1
KillWait=2
SchedulerParameters=sched_interval=1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=4
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """The reason why no SLURM can be started here, empty where one can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"no {', '.join(absent)} here (Debian: apt-get install slurm-wlm munge)" if absent else ""


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Run a SLURM in an empty folder; every SLURM program that this process starts speaks to it."""
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(_configuration(folder))
    try:
        _start(folder)
        yield
    finally:
        _stop(folder)
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before


def kill(folder: Path, daemon: str) -> None:
    """Kill -9 a daemon, as a node dies, by its pid file."""
    os.kill(int((folder / f"{daemon}.pid").read_text()), signal.SIGKILL)


def _configuration(folder: Path) -> Path:
    ports = dict(zip(("controller", "first", "second"), (free_port() for _ in range(3)), strict=True))
    text = CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0], user=getpass.getuser(), folder=folder, **ports
    )
    path = folder / "slurm.conf"
    path.write_text(text)
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    return path


def _start(folder: Path) -> None:
    files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "log-file": "munged.log"}
    options = [f"--{name}={folder / file}" for name, file in {**files, "seed-file": "munge.seed"}.items()]
    subprocess.run(["munged", "--force", *options], check=True)
    subprocess.run(["slurmctld"], check=True)
    for node in NODES:
        subprocess.run(["slurmd", "-N", node], check=True)
    deadline = time.monotonic() + STARTS_WITHIN
    while subprocess.run(["sinfo", "-h", "-o", "%t"], capture_output=True, text=True).stdout.split() != ["idle"]:
        if time.monotonic() > deadline:
            raise RuntimeError((folder / "slurmctld.log").read_text()[-2000:])
        time.sleep(0.1)


def _stop(folder: Path) -> None:
    """End all jobs, then the daemons by their pid files, munge last."""
    subprocess.run(["scancel", "--user", getpass.getuser()], check=False)
    deadline = time.monotonic() + ENDS_WITHIN
    while subprocess.run(["squeue", "-h"], capture_output=True).stdout and time.monotonic() < deadline:
        time.sleep(0.1)
    for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "munged"):
        path = folder / f"{name}.pid"
        with suppress(OSError, ValueError):
            pid = int(path.read_text())
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + ENDS_WITHIN
            while path.exists() and time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.05)
