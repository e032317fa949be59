"""The folder of a run: it belongs to one command, and one process group at a time works in it."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.files import replacing
from harness import distributed
from harness.fingerprint import Fingerprint, differences
from harness.progress import note
from harness.provenance import new_run, same

CHECKPOINTS = "checkpoints"
PREDICTIONS = "predictions"
RUN = "run.json"
RESULT = "result.json"
REPLICATES = "replicates.npz"
FINAL = "final.safetensors"  # in the checkpoints, the fine-tuned weights


def fine_tuned(folder: Path) -> Path:
    """Path of the fine-tuned weights of the run in `folder`."""
    return folder / CHECKPOINTS / FINAL


@dataclass(frozen=True)
class WorkDir:
    """An opened run folder."""

    folder: Path
    run_id: str
    started: str  # UTC, ISO 8601

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS

    @property
    def fine_tuned(self) -> Path:
        return fine_tuned(self.folder)

    def predictions(self, split: str) -> Path:
        return self.folder / PREDICTIONS / f"{split}.jsonl"

    @property
    def result(self) -> Path:
        return self.folder / RESULT

    @property
    def classes(self) -> Path:
        return self.folder / "classes.csv"

    @property
    def replicates(self) -> Path:
        return self.folder / REPLICATES


@contextmanager
def opened(
    folder: Path, identity: Mapping[str, Any], data: Mapping[str, Fingerprint], *, only_predicted: Collection[str] = ()
) -> Iterator[WorkDir]:
    """Open a new run folder, or one that the same command made, with the same splits or others.

    Args:
        identity: JSON-able; everything that decides the result besides the data.
        data: of each split that the run uses.
        only_predicted: those of them that shape no weights. Where image files of such a split were replaced before it
            was predicted as a whole, its predictions start again.

    Raises:
        InputError: the folder cannot be written, another process works in it, or it holds another run.
    """
    with ExitStack() as held:
        facts = distributed.decided(lambda: _locked(folder, identity, data, only_predicted, held))
        yield WorkDir(folder, *facts)


def _locked(
    folder: Path,
    identity: Mapping[str, Any],
    data: Mapping[str, Fingerprint],
    only_predicted: Collection[str],
    held: ExitStack,
) -> tuple[str, str]:
    """Lock the folder, with the lock in `held`; returns the run's name and start."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = held.enter_context((folder / ".lock").open("w"))
    except OSError as error:
        raise InputError(
            f"The output folder {folder} cannot be written ({error.strerror}). Fix its permissions or give another "
            "--out."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"Another run works in {folder}. Wait for it, or give another --name or --out.") from None
    return _facts(folder / RUN, identity, data, only_predicted)


def _facts(
    file: Path, identity: Mapping[str, Any], data: Mapping[str, Fingerprint], only_predicted: Collection[str]
) -> tuple[str, str]:
    now = {split: asdict(known) for split, known in data.items()}
    stored = json.loads(file.read_text()) if file.exists() else None
    before = stored.get("data", {}) if stored else {}
    options = same(stored["identity"], identity) if stored else []
    if not options:
        before = _without_unfinished(file.parent, before, data, only_predicted)
    changes = _changes(before, data)
    if (options or changes) and _begun(file.parent):
        raise InputError(_other_run(file.parent, options, changes))
    if stored is None or options or changes:
        run_id, started = new_run()
        write_json(file, {"run_id": run_id, "started": started, "identity": identity, "data": now})
        return run_id, started
    for split in before.keys() & now.keys():  # contents that were verified before
        now[split]["images_sha256"] = now[split]["images_sha256"] or before[split]["images_sha256"]
    if (known := {**before, **now}) != before:
        write_json(file, {**stored, "data": known})
    return stored["run_id"], stored["started"]


def _without_unfinished(
    folder: Path, before: Mapping[str, Any], data: Mapping[str, Fingerprint], only_predicted: Collection[str]
) -> Mapping[str, Any]:
    """Remove unfinished predictions of splits whose images were replaced; returns `before` without these splits."""
    again = [
        split
        for split in only_predicted
        if split in before
        and before[split]["data"] == data[split].data
        and differences(split, before[split], data[split])
        and not (folder / PREDICTIONS / f"{split}.jsonl").exists()
    ]
    for split in again:
        note(f"Image files of {split} were replaced since the run began: its predictions start again.")
        shutil.rmtree(folder / PREDICTIONS / split, ignore_errors=True)
    return {split: known for split, known in before.items() if split not in again}


def _changes(before: Mapping[str, Any], data: Mapping[str, Fingerprint]) -> list[str]:
    return [
        change for split, now in data.items() if split in before for change in differences(split, before[split], now)
    ]


def _other_run(folder: Path, options: list[str], changes: list[str]) -> str:
    final = fine_tuned(folder)
    kept = f" `harness predict … --weights {final}` uses what it has fine-tuned." if final.exists() else ""
    other = f"another {', '.join(options)}" if options else f"other data: {'; '.join(changes)}"
    return f"{folder} holds a run with {other}. Give this one another --name or --out, or remove the folder.{kept}"


def _begun(folder: Path) -> bool:
    """Check that a run left a checkpoint or predictions: one that failed before leaves its folder to others."""
    checkpoints = [*folder.glob("*.safetensors"), *folder.glob(f"{CHECKPOINTS}/*.safetensors"), *folder.glob("*/*.pth")]
    return bool(checkpoints) or any(path.is_file() for path in (folder / PREDICTIONS).rglob("*"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file in one move; errors as in `write_bytes`."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, default=list) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one move.

    Raises:
        InputError: it cannot be written; the file that was there is unchanged.
    """
    try:
        with replacing(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}). Free some space or fix the permissions and run the same "
            "command again."
        ) from error
