"""Provenance of a number: code, libraries, data."""

from __future__ import annotations

import datetime
import hashlib
import json
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tasks.adapter import Sample, TaskAdapter
from tasks.recipe import Recipe

PACKAGE = "multiway-harness"
COMMIT = "COMMIT"  # beside the package, in a copy of its sources (harness.grids.slurm.pinned)
TRAINED = "trained"  # key in the metadata of a fine-tuned file, of a row's columns as JSON
# Libraries whose version can move a number.
LIBRARIES = (
    "torch", "torchvision", "timm", "pillow", "numpy", "mmengine", "mmcv-lite", "mmdet", "mmsegmentation",
    "sentencepiece", "pycocoevalcap", "pycocotools", "faster-coco-eval",
)  # fmt: skip

_LINES = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def new_run() -> tuple[str, str]:
    """Random name and start time (UTC, ISO 8601) of a new run."""
    return uuid.uuid4().hex[:12], datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def package_version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return ""


def package() -> str:
    """Version of the package, and its commit when it runs from a checkout."""
    return f"{package_version()} {package_commit()}".strip()


def package_commit() -> str:
    """Commit of the checkout that the package runs from or was copied from, '-dirty' with local changes, else empty."""
    root = Path(__file__).resolve().parent.parent
    if (root / COMMIT).is_file():
        return (root / COMMIT).read_text()
    if not (root / ".git").exists():
        return ""
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):  # no git here, or a repository without a commit
        return ""


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def library_versions() -> str:
    """Installed versions of `LIBRARIES`, as `name=version` with spaces between."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name}={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return " ".join(found)


def data_sha256(adapter: TaskAdapter, samples: Iterable[Sample], root: Path) -> str:
    """Hash of a split's ids, inputs and annotations, in order. Image files are not read (see `harness.fingerprint`).

    It is that of the lines `json.dumps([id, inputs, annotation], sort_keys=True, separators=(",", ":"))`, with
    `TaskAdapter.hashed_inputs` for the inputs, so that it does not depend on the place of the data folder.
    """
    digest = hashlib.sha256()
    for sample in samples:
        line = _LINES.encode([sample.id, adapter.hashed_inputs(sample, root), sample.annotation])
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def stored(columns: Mapping[str, Any]) -> dict[str, str]:
    """Convert columns about a training to the metadata of a safetensors file; see `harness.origin`."""
    return {TRAINED: json.dumps(columns, ensure_ascii=False)}


def predictions_sha256(path: Path) -> str:
    """Hash of a file or folder of predictions.

    Of a file with an .arrays file beside it, and of a folder, it is the hash of a line for each of the files: its hash
    and its name, or its suffix in the first case.
    """
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    elif path.suffix == ".jsonl" and path.with_suffix(".arrays").exists():
        files = {file.suffix: file for file in (path, path.with_suffix(".arrays"))}  # whatever they are called
    else:
        return _file_sha256(path)
    lines = [f"{_file_sha256(file)}  {name}\n" for name, file in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recipe_sha256(recipe: Recipe) -> str:
    """Hash of the recipe's name and of the fields that change the result."""
    return hashlib.sha256(_canonical({"name": recipe.name, **recipe.deciding()})).hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def same(left: Mapping, right: Mapping) -> list[str]:
    """Keys whose values differ between two JSON-able mappings."""
    plain = [json.loads(_canonical(dict(mapping))) for mapping in (left, right)]
    return sorted(key for key in {*plain[0], *plain[1]} if plain[0].get(key) != plain[1].get(key))
