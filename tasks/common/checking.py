"""Findings about a data folder, split by split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from backbones.errors import AbsentError, InputError
from backbones.files import reading
from tasks.adapter import Finding, Progress, Sample, TaskAdapter
from tasks.common import shards

_FIX = "Fix the files that this names, or copy them again; --debug shows where it was read."


def read_samples(adapter: TaskAdapter, root: Path, split: str) -> Sequence[Sample]:
    """The samples of a split.

    Raises:
        InputError: whatever is wrong with the files, faults too that their own reader does not know.
    """
    with reading(root, f"annotations of {adapter.name}'s {split}", fix=_FIX):
        return adapter.samples(root, split)


def read_labels(adapter: TaskAdapter, root: Path) -> Any:
    """The labels of a data folder, see `TaskAdapter.labels`; errors as of `read_samples`."""
    with reading(root, f"labels of {adapter.name}", fix=_FIX):
        return adapter.labels(root)


def check_splits(
    adapter: TaskAdapter,
    root: Path,
    *,
    describe: Callable[[str, Sequence[Sample]], str],
    notes: Callable[[str, Sequence[Sample]], Iterable[str]] = lambda split, samples: (),
    images: Callable[[Sample], Iterable[str]],
    decode: bool,
    progress: Progress,
) -> list[Finding]:
    """For each split how many samples it has, or what is wrong with it, and its absent images.

    Args:
        describe: a split's name and samples in words.
        notes: what else a split's samples are like, a line each, none of it wrong.
        images: the images of a sample, relative to the data folder.
        decode: open every image, to find those that cannot be read too.
    """
    findings = []
    for split, facts in adapter.splits.items():
        try:
            samples = read_samples(adapter, root, split)
        except InputError as error:
            # Without truth a split is of use for the server's file only.
            optional = "" if facts.labels else f"{split}, for {facts.server} only: "
            ok = not facts.labels or (facts.optional and isinstance(error, AbsentError))
            findings.append(Finding(ok, f"{optional}{error}", absent=ok))
            continue
        findings += [Finding(True, f"{split}: {text}") for text in (describe(split, samples), *notes(split, samples))]
        paths = [root / path for sample in samples for path in images(sample)]
        if facts.optional and not any(_exists(path) for path in paths):
            text = f"{split}: its images are not there. They are needed for this split only."
            findings.append(Finding(True, text, absent=True))
        else:
            findings += missing_images(paths, split, decode=decode, progress=progress)
    return findings


def compared(count: int, what: str, official: int | None) -> str:
    """A count beside the official one: "450 questions (official: 214,354)"."""
    if official is None:
        return f"{count:,} {what}"
    return f"{count:,} {what} ({'the official number' if count == official else f'official: {official:,}'})"


def _exists(path: Path) -> bool:
    return path.is_file() or ((inside := shards.place_of(path)) is not None and shards.exists(inside[0]))


def missing_images(paths: Sequence[Path], split: str, *, decode: bool, progress: Progress) -> list[Finding]:
    """Findings about a split's images that are absent, or with `decode` cannot be read."""
    from tasks.common.images import broken_images

    unique = list(dict.fromkeys(paths))
    if decode:
        return [Finding(False, reason) for reason in broken_images(progress(unique, f"decode {split}"))]
    absent = [path for path in unique if not _exists(path)]
    if not absent:
        return []
    return [
        Finding(False, f"{split}: {len(absent):,} of {len(unique):,} images absent, such as {absent[0]}. Restore them.")
    ]
