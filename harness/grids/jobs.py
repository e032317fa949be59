"""Jobs of a grid: stages of pretraining and cells, each a specification that any process can carry out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from backbones.errors import InputError
from harness.grids import identity as identities
from harness.workdir import CHECKPOINTS, FINAL
from tasks.pretraining import recipes
from tasks.pretraining.recipe import ClusterRecipe, DistillationRecipe

# Files that stages make which are no weights of a backbone; see `harness.pretraining_plan`.
RESULTS = {DistillationRecipe: "tokenizer.safetensors", ClusterRecipe: "clusters.safetensors"}
FORM = 1  # of a specification; goes up when its fields change their meaning


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stage of pretraining, or a cell: fine-tuning and score.

    grid, row, column, seed: for people; `row` and `column` of a stage are the recipe and the row it was made for.
    options: keywords of `harness.experiment.plan` or of `harness.pretraining_plan.plan`, JSON-able.
    identity: everything that decides the result; see `harness.grids.identity`.
    folder: of the job, named after the beginning of its key.
    needs: keys of the stages whose results it begins with.
    minutes: it may take; 0 is no limit.
    code_change: why a result of other code may count, as the user says.
    """

    kind: Literal["stage", "cell"]
    grid: str
    row: str
    column: str
    seed: int
    metric: str = ""
    options: Mapping[str, Any]
    identity: Mapping[str, Any]
    folder: str
    needs: tuple[str, ...] = ()
    minutes: float = 0
    code_change: str = ""
    form: int = FORM
    key: str = field(default="")

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", identities.key(self.identity))

    @property
    def label(self) -> str:
        """The job in a few words."""
        if self.kind == "stage":
            return f"pretraining {self.column} for {self.row!r}, seed {self.seed}"
        return f"{self.row!r}, {self.column}, seed {self.seed}"

    @property
    def path(self) -> Path:
        return Path(self.folder)

    @property
    def result(self) -> Path:
        """The file that a stage makes for the jobs that need it."""
        kind = type(recipes.get(self.column))
        folder = self.path / self.column
        return folder / RESULTS[kind] if kind in RESULTS else folder / CHECKPOINTS / FINAL

    def specification(self) -> dict[str, Any]:
        """The job as JSON-able keys and values."""
        return identities.plain(asdict(self))


def of(specification: Mapping[str, Any]) -> Job:
    """The job of a specification.

    Raises:
        InputError: it is none, of another version, or was changed by hand.
    """
    try:
        job = Job(**{**specification, "needs": tuple(specification["needs"])})
    except (TypeError, KeyError) as error:
        raise InputError(
            f"This is no specification of a cell ({error}). Use those that harness.grids.plan makes."
        ) from error
    if job.form != FORM:
        raise InputError(
            f"The specification of {job.label} has form {job.form}, and this version reads {FORM}. Make it again with "
            "the version that runs it."
        )
    if job.key != identities.key(job.identity):
        raise InputError(
            f"The specification of {job.label} was changed by hand: its identity has another hash than its key. Change "
            "the grid instead, and make the specification again."
        )
    return job


def over_budget(job: Job) -> str:
    """The paragraph about a job that took longer than its grid allows."""
    return (
        f"it took longer than the {job.minutes:g} minutes of the grid's budget. Raise minutes in [budget], or "
        "shorten the training; with --retry-failed it goes on from its newest checkpoint."
    )
