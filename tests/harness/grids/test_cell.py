"""Cells carried out: once, anywhere, from where they stopped, and never in silence by other code or data."""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backbones.errors import InputError
from harness import grids, hardware
from harness.fingerprint import fingerprint
from harness.grids import execution, identity, planning, store
from harness.grids.jobs import Job
from harness.grids.planning import Plan
from harness.workdir import BusyError
from leaderboards import csv_file, results, rows
from leaderboards.csv_file import ResultsError
from tests.harness.grids.test_planning import GRID, written

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("few_draws")]
RUN = Path("imagenet") / "run"


def planned(folder: Path, data: Path, text: str = GRID, **options: object) -> Plan:
    return planning.plan(written(folder, text), data=str(data), out=folder / "out", **options)


def states(plan: Plan) -> dict[tuple[str, int], str]:
    return {(job.row, job.seed): store.look(job).state for job in plan.jobs if job.kind == "cell"}


@pytest.fixture(scope="module")
def plan_folder(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished grid of two rows and one seed. Read only."""
    folder = tmp_path_factory.mktemp("grid")
    with pytest.MonkeyPatch.context() as patch:
        from tasks import bootstrap

        patch.setitem(bootstrap.replicates.__kwdefaults__, "resamples", 20)
        for wave in planned(folder, colours, seeds=(0,)).waves():
            for specification in wave:
                grids.run_cell(json.loads(json.dumps(specification)))
    return folder


@pytest.fixture
def whole(plan_folder: Path, tmp_path: Path) -> Path:
    """A copy of it that may be damaged."""
    return shutil.copytree(plan_folder, tmp_path / "copy")


def copied(whole: Path, colours: Path, **options: object) -> Plan:
    return planned(whole, colours, **{"seeds": (0,), **options})


def cell(plan: Plan, row: str = "plain", seed: int = 0) -> Job:
    return next(job for job in plan.jobs if (job.kind, job.row, job.seed) == ("cell", row, seed))


def test_a_cell_has_rows_that_say_its_place(whole: Path, colours: Path) -> None:
    plan = copied(whole, colours)
    job = cell(plan, "fast")
    found = rows.read(job.path / store.ROWS)
    assert [row.metric for row in found] == ["top1", "top5"]
    assert {(row.grid, row.variant, row.cell, row.code_change) for row in found} == {("grid", "fast", job.key, "")}
    assert found[0].recipe_altered.split() == ["image_size", "steps", "batch_size", "lr"]


def test_a_grids_folder_is_read_as_any_other(whole: Path, colours: Path) -> None:
    plan = copied(whole, colours)
    frame = results.gather([plan.folder]).frame
    assert sorted(zip(frame["variant"], frame["metric"], strict=True)) == [
        ("fast", "top1"), ("fast", "top5"), ("plain", "top1"), ("plain", "top5"),
    ]  # fmt: skip


def test_a_finished_cell_never_runs_twice(whole: Path, colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = cell(copied(whole, colours))
    before = rows.read(job.path / store.ROWS)

    def run(*_: object, **__: object) -> None:
        raise AssertionError("it ran")

    monkeypatch.setattr("harness.pipeline.run", run)
    assert grids.run_cell(job.specification()) == before


def test_a_cell_killed_while_it_wrote_its_rows_is_scored_again(whole: Path, colours: Path) -> None:
    plan = copied(whole, colours)
    job, path = cell(plan), cell(plan).path / store.ROWS
    before = rows.read(path)
    trained = (job.path / RUN / "checkpoints" / "final.safetensors").stat().st_mtime_ns
    for text in (path.read_bytes()[:-700], path.read_bytes()[:-1], b""):
        path.write_bytes(text)
        path.with_name("rows.csv.partial").write_bytes(text)
        assert states(plan) == {("plain", 0): "unfinished", ("fast", 0): "done"}
        after = grids.run_cell(job.specification())
        assert [(row.metric, row.value, row.run_id) for row in after] == [
            (row.metric, row.value, row.run_id) for row in before
        ]
    assert (job.path / RUN / "checkpoints" / "final.safetensors").stat().st_mtime_ns == trained


def test_a_full_disk_fails_one_cell_and_loses_nothing(
    whole: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = copied(whole, colours, seeds=(0, 1))
    job = cell(plan, seed=1)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(csv_file, "replace", full)
        with pytest.raises(ResultsError, match="No space left"):
            grids.run_cell(job.specification())
    found = store.look(job)
    assert found.state == "failed" and "Free some space" in found.reason
    assert states(plan)["plain", 0] == "done"
    jobs = {(each.row, each.seed) for each in execution.missing(plan, execution.looked(plan), retry_failed=False)}
    assert jobs == {("fast", 1)}
    again = execution.missing(plan, execution.looked(plan), retry_failed=True)
    assert {(each.row, each.seed) for each in again} == {("fast", 1), ("plain", 1)}
    grids.run_cell(job.specification())
    assert store.look(job).state == "done" and not (job.path / store.FAILED).exists()


def test_a_folder_of_another_grid_is_left_alone(whole: Path, colours: Path) -> None:
    plan = copied(whole, colours, seeds=(0, 1))
    other = cell(plan, "fast", 0).path
    shutil.copytree(other, cell(plan, "plain", 1).path)
    before = (cell(plan, "plain", 1).path / store.ROWS).read_bytes()
    found = store.look(cell(plan, "plain", 1))
    assert found.state == "foreign"
    assert "holds a cell of another grid (it differs in recipe.lr, seed)" in found.reason
    with pytest.raises(InputError, match="Move that folder away"):
        grids.run_cell(cell(plan, "plain", 1).specification())
    assert (cell(plan, "plain", 1).path / store.ROWS).read_bytes() == before
    _, failed = execution.results(plan, execution.looked(plan))
    assert set(failed) == {("plain", "imagenet val top1", 1)}


def test_cells_of_a_changed_grid_are_counted_and_not_shown(whole: Path, colours: Path) -> None:
    assert execution.strangers(copied(whole, colours)) == 0
    changed = copied(whole, colours, text=GRID.replace("lr = 0.1", "lr = 0.2"))
    assert execution.strangers(changed) == 1
    assert states(changed) == {("plain", 0): "done", ("fast", 0): "new"}


def test_a_row_with_a_new_name_is_the_same_cell(whole: Path, colours: Path) -> None:
    renamed = copied(whole, colours, text=GRID.replace('"fast"', '"faster"'))
    found = {store.relabel(each).job.row: each for each in execution.looked(renamed).values()}
    assert found["faster"].state == "done"
    assert {row.variant for row in rows.read(cell(renamed, "faster").path / store.ROWS)} == {"faster"}


def other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "code", lambda: {"package": "0", "source": "f" * 64, "libraries": ""})


def test_other_code_does_not_count_unless_someone_says_why(
    whole: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_code(monkeypatch)
    plan = copied(whole, colours)
    assert set(states(plan).values()) == {"new"} and plan.code_change.ignored == 2
    accepted = copied(whole, colours, accept_code_change="comments only")
    assert set(states(accepted).values()) == {"done"}
    assert not execution.missing(accepted, execution.looked(accepted), retry_failed=False)
    execution.run(accepted, nothing, place="", retry_failed=False)
    assert {row.code_change for row in results_of(accepted)} == {"comments only"}
    later = copied(whole, colours)  # the reason was kept
    assert set(states(later).values()) == {"done"}
    execution.run(later, nothing, place="", retry_failed=False)
    assert {row.code_change for row in results_of(later)} == {"comments only"}


def nothing(jobs: object, **_: object) -> Iterator[None]:
    raise AssertionError("jobs were run")


def results_of(plan: Plan) -> list[rows.ResultRow]:
    return [row for job in plan.cells.values() for row in rows.read(job.path / store.ROWS)]


def test_code_that_changed_since_planning_is_refused(
    whole: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cell(copied(whole, colours, seeds=(0, 1)), seed=1)
    other_code(monkeypatch)
    with pytest.raises(InputError, match="made by other code than runs it"):
        grids.run_cell(job.specification())
    assert store.look(job).state == "failed"


def test_another_device_than_planned_is_refused(whole: Path, colours: Path) -> None:
    gpu = hardware.Hardware(kind="cuda", name="A GPU", bf16=True)
    job = cell(planned(whole, colours, device=gpu))
    with pytest.raises(InputError, match="is for cuda A GPU, and this process computes on"):
        grids.run_cell(job.specification())


def test_data_that_changed_under_their_old_names_are_found(
    whole: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cell(copied(whole, colours, seeds=(0, 1)), seed=1)

    def other(*args: object, **options: object) -> object:
        found = fingerprint(*args, **options)
        return type(found)(data="0" * 64, images=found.images)

    monkeypatch.setattr("harness.pipeline.fingerprint", other)
    with pytest.raises(InputError, match=r"The data of 'plain'.*--verify-data"):
        grids.run_cell(job.specification())
    assert store.look(job).state == "failed"


def test_a_folder_in_which_another_process_works_is_no_failure(whole: Path, colours: Path) -> None:
    job = cell(copied(whole, colours, seeds=(0, 1)), seed=1)
    (job.path / RUN).mkdir(parents=True)
    with (job.path / RUN / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError):
            grids.run_cell(job.specification())
    assert store.look(job).state == "unfinished"


def test_the_forecast_is_from_measured_cells(whole: Path, colours: Path) -> None:
    plan = copied(whole, colours, seeds=(0, 1, 2))
    found = execution.looked(plan)
    seconds = [each.seconds for each in found.values() if each.seconds is not None]
    assert len(seconds) == 2
    jobs = execution.missing(plan, found, retry_failed=False)
    assert execution.forecast(jobs, found, slots=1).seconds == pytest.approx(4 * sum(seconds) / 2)
    assert execution.forecast(jobs, found, slots=2).seconds == pytest.approx(2 * sum(seconds) / 2)
    assert execution.forecast(jobs, {}, slots=2) == execution.Forecast(seconds=0, unknown=4)
