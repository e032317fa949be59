"""Fields of sbatch as a user gives them, against an sbatch whose help names a few."""

from __future__ import annotations

from pathlib import Path

import pytest

from backbones.errors import InputError, UsageError
from harness.grids.slurm import fields
from harness.grids.slurm.fields import Fields, parsed

pytest.importorskip("submitit", reason="no submitit here (the extra slurm)")
HELP = "  --partition=name  --gpus-per-node=n --exclusive[=user] --time=minutes --nodes=N --output=out --mem=MB"


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in fields.PROGRAMS:
        program(tmp_path / name, f"echo '{HELP}'")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_fields_are_passed_on_under_sbatchs_names() -> None:
    found = parsed(["partition=gpu", "gpus_per_node=8", "--mem=0", "exclusive", "nodes=2", "time=1-00:00:30"], budget=0)
    others = {"partition": "gpu", "gpus-per-node": "8", "mem": "0", "exclusive": True}
    assert found == Fields(minutes=24 * 60 + 1, nodes=2, others=others)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:01", 91), ("2:30:00", 150), ("2-3", 51 * 60), ("2-3:04", 51 * 60 + 4), ("0:0:1", 1)],
)
def test_times_in_the_forms_of_sbatch(text: str, minutes: int) -> None:
    assert parsed([f"time={text}"], budget=0).minutes == minutes


def test_the_time_limit_follows_the_budget_of_a_cell() -> None:
    assert parsed([], budget=7.5).minutes == 8 + fields.SPARE
    assert parsed(["time=5"], budget=7.5).minutes == 5


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["partitoin=gpu", "time=1"], "Unknown field of sbatch 'partitoin'. Did you mean partition"),
        (["output=a.txt", "time=1"], "each cell has its own log.txt"),
        (["ntasks-per-node=2", "time=1"], "give nodes and gpus-per-node"),
        (["mem=1", "mem=2", "time=1"], "mem is given twice"),
        (["time=soon"], "not a time"),
        (["time=0"], "leaves a cell no time"),
        (["nodes=two", "time=1"], "give the number of nodes"),
        ([], "how long a cell may run at a time"),
    ],
)
def test_wrong_fields_are_a_wrong_call(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parsed(texts, budget=0)


def test_a_machine_without_slurm_is_told(programs: Path) -> None:
    (programs / "squeue").unlink()
    with pytest.raises(InputError, match=r"no squeue here.*leave out --launcher"):
        parsed(["time=1"], budget=0)
