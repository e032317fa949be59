"""The folder of a run: it belongs to one command, and one process group at a time works in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from backbones.errors import InputError
from backbones.files import PARTIAL, lock, reading, replacing
from harness import distributed
from harness.fingerprint import Fingerprint, differences
from harness.progress import note
from harness.provenance import new_run, same

CHECKPOINTS = "checkpoints"
CHECKPOINT = "last.pth"  # in them, of an unfinished training
SHARDED = "last-*"  # folders in their place while a training is sharded
PREDICTIONS = "predictions"
RUN = "run.json"
RESULT = "result.json"
REPLICATES = "replicates.npz"
FINAL = "final.safetensors"  # in the checkpoints, the fine-tuned weights


def fine_tuned(folder: Path) -> Path:
    """Path of the fine-tuned weights of the run in `folder`."""
    return folder / CHECKPOINTS / FINAL


class BusyError(InputError):
    """A run folder in which another process works."""


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
        file = held.enter_context((folder / ".lock").open("w"))
    except OSError as error:
        raise InputError(
            f"The output folder {folder} cannot be written ({error.strerror}). Fix its permissions or give another "
            "--out."
        ) from error
    try:
        if not lock(file, wait=False):
            note(f"{folder}: this file system has no locks. Start no second run there while this one works.")
    except BlockingIOError:
        raise BusyError(f"Another run works in {folder}. Wait for it, or give another --name or --out.") from None
    except OSError as error:
        raise InputError(
            f"The output folder {folder} cannot be locked ({error.strerror}). Give an --out on another file system."
        ) from error
    held.callback(_unlocked_in_children.discard, file)
    _unlocked_in_children.add(file)
    _remove_leftovers(folder)
    return _facts(folder / RUN, identity, data, only_predicted)


def _close_locks() -> None:
    """Close the locks in a forked process: a loader worker that outlives the run would hold it."""
    for file in _unlocked_in_children:
        file.close()
    _unlocked_in_children.clear()


_unlocked_in_children: set[IO[str]] = set()  # files that hold the locks of this process
os.register_at_fork(after_in_child=_close_locks)


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed run left and no start goes on from."""
    for partial in folder.rglob(f"*{PARTIAL}"):
        partial.unlink(missing_ok=True)
    if fine_tuned(folder).exists():
        remove_checkpoints(folder / CHECKPOINTS)
    for whole in (folder / PREDICTIONS).glob("*.jsonl"):
        for parts in (whole.with_suffix(""), whole.with_suffix(".merging")):
            shutil.rmtree(parts, ignore_errors=True)


def remove_checkpoints(folder: Path, *, but: Path | None = None) -> None:
    """Remove the checkpoints in a folder, unfinished ones too, all but one."""
    for place in (folder / CHECKPOINT, *folder.glob(SHARDED)):
        if place == but:
            continue
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def _facts(
    file: Path, identity: Mapping[str, Any], data: Mapping[str, Fingerprint], only_predicted: Collection[str]
) -> tuple[str, str]:
    now = {split: asdict(known) for split, known in data.items()}
    with reading(
        file, "what decides the run", fix="Remove the folder to begin again, or give another --name or --out."
    ):
        stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        if stored is None and file.exists():
            raise ValueError("nothing in it")
        before = stored.get("data", {}) if stored is not None else {}
        options = same(stored["identity"], identity) if stored is not None else []
        run_id, started = (stored["run_id"], stored["started"]) if stored is not None else ("", "")
        if not (isinstance(run_id, str) and isinstance(started, str) and isinstance(before, dict)):
            raise ValueError("no text as run_id and started")
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
    return run_id, started


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
    kinds = ("*.safetensors", f"{CHECKPOINTS}/*.safetensors", "*/*.pth", f"{CHECKPOINTS}/{SHARDED}/*.json")
    return any(any(folder.glob(kind)) for kind in kinds) or any(
        path.is_file() for path in (folder / PREDICTIONS).rglob("*")
    )


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
