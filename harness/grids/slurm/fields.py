"""Fields of sbatch that a user gives for every job of a grid, as `key=value` texts."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backbones.errors import InputError, UsageError, unknown
from backbones.packages import install_command

REQUIREMENT = "submitit>=1.5.3"  # as in pyproject.toml
PROGRAMS = ("sbatch", "squeue", "srun")
SPARE = 10  # minutes besides a cell's own budget: starting up, waiting for the file system
# Fields that the launcher sets itself, and what to do instead.
OURS = {
    "array": "--jobs N bounds how many elements of an array run at a time",
    "dependency": "cells wait for their pretraining",
    "output": "each cell has its own log.txt",
    "error": "each cell has its own log.txt",
    "open-mode": "each cell has its own log.txt",
    "signal": "cells are told of their time limit early enough to be requeued",
    "requeue": "cells are always requeued",
    "no-requeue": "cells are always requeued",
    "wrap": "the script is the launcher's",
    "parsable": "the launcher reads the answer",
    "test-only": "use --dry-run",
    "wait": "the command waits for all jobs",
    "ntasks": "a task is started on each node, and in it a process for each GPU: give nodes and gpus-per-node",
    "ntasks-per-node": "a task is started on each node, and in it a process for each GPU: give nodes and gpus-per-node",
}
_TIME = re.compile(
    r"(?:(?P<days>\d+)-(?P<dh>\d+)(?::(?P<dm>\d+)(?::(?P<ds>\d+))?)?)"
    r"|(?:(?P<h>\d+):(?P<hm>\d+):(?P<hs>\d+))"
    r"|(?:(?P<m>\d+)(?::(?P<ms>\d+))?)"
)


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Fields of every job.

    minutes: time limit of each start of a job. nodes: of each job. others: by name; True of a field without value.
    """

    minutes: int
    nodes: int
    others: Mapping[str, str | bool]


def parsed(texts: Sequence[str], *, budget: float) -> Fields:
    """Check fields and split them into those that the launcher has to know and the others.

    Args:
        texts: `key=value`, or a key alone for a field without value; dashes and underscores are the same.
        budget: minutes that a cell may take in all, which the time limit follows where none is given; 0 for no limit.

    Raises:
        InputError: there is no SLURM here, or submitit is missing.
        UsageError: an unknown field, one that the launcher sets itself, one twice, or no time limit.
    """
    require_slurm()
    found: dict[str, str | bool] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().lstrip("-").replace("_", "-")
        _require_known(name, text)
        if name in found:
            raise UsageError(f"--slurm {name} is given twice. Give it once.")
        found[name] = value.strip() if equals else True
    minutes = found.pop("time", None)
    if minutes is None and not budget:
        raise UsageError(
            "SLURM has to know how long a cell may run at a time, and the grid has no budget of minutes: give --slurm "
            "time=240 (minutes, or any of sbatch's forms). A cell that needs longer is requeued, and goes on."
        )
    limit = math.ceil(budget) + SPARE if minutes is None else _minutes(minutes)
    return Fields(minutes=limit, nodes=_nodes(found.pop("nodes", "1")), others=found)


def require_slurm() -> None:
    """Check that jobs can be submitted from here.

    Raises:
        InputError: SLURM's programs or submitit are missing.
    """
    if absent := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise InputError(
            f"There is no {' and no '.join(absent)} here: --launcher slurm is for a machine from which a SLURM cluster "
            "is used, such as its login node. Call it there, or leave out --launcher."
        )
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--launcher slurm needs the package submitit. Install it: {install_command(REQUIREMENT)}"
        ) from error


def _require_known(name: str, text: str) -> None:
    if name in OURS:
        raise UsageError(f"--slurm {text}: the launcher sets {name} itself ({OURS[name]}). Leave it out.")
    known = _known()
    if known and name not in known:
        raise unknown("field of sbatch", name, known - OURS.keys(), hint="`sbatch --help` lists them all.")


def _known() -> set[str]:
    """The long options of this cluster's sbatch, as its help has them; none where it says nothing."""
    told = subprocess.run(["sbatch", "--help"], capture_output=True, text=True, check=False).stdout
    return {option.removeprefix("--") for option in re.findall(r"--[a-z][a-z-]+", told)}


def _minutes(value: str | bool) -> int:
    """Minutes of a time in one of sbatch's forms, rounded up."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise UsageError(
            f"--slurm time={value}: not a time. Use minutes, minutes:seconds, hours:minutes:seconds, days-hours, "
            "days-hours:minutes or days-hours:minutes:seconds."
        )
    part = {name: int(found or 0) for name, found in match.groupdict().items()}
    hours = 24 * part["days"] + part["dh"] + part["h"]
    minutes = 60 * hours + part["dm"] + part["hm"] + part["m"]
    found = minutes + math.ceil((part["ds"] + part["hs"] + part["ms"]) / 60)
    if not found:
        raise UsageError("--slurm time=0 leaves a cell no time. Give minutes from 1.")
    return found


def _nodes(value: str | bool) -> int:
    if not isinstance(value, str) or not value.isdecimal() or int(value) < 1:
        raise UsageError(f"--slurm nodes={value}: give the number of nodes of each cell, from 1.")
    return int(value)
