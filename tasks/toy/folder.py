"""Marker files of a drawn folder: its parameters, and that the drawing was finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from backbones.errors import InputError
from backbones.files import partial_name, replacing

MARKER, UNFINISHED = "toy.json", "toy.partial.json"


def begin(folder: Path, parameters: Mapping[str, int]) -> bool:
    """Mark `folder` as being drawn with `parameters`; true when it is complete already.

    What an interrupted drawing with the same parameters left is kept: equal parameters give equal files.

    Raises:
        InputError: the folder holds something else.
    """
    for name in (MARKER, UNFINISHED):
        if (folder / name).is_file():
            found = (folder / name).read_text()
            if found == _text(parameters):
                return name == MARKER
            raise _taken(folder, parameters, f"a toy data set drawn with {' '.join(found.split())}")
    first_try = partial_name(folder / UNFINISHED)
    if folder.is_dir() and any(entry != first_try for entry in folder.iterdir()):
        raise _taken(folder, parameters, "files that are no toy data set")
    with replacing(folder / UNFINISHED) as partial:
        partial.write_text(_text(parameters))
    return False


def finish(folder: Path) -> None:
    """Mark `folder` as complete."""
    (folder / UNFINISHED).replace(folder / MARKER)


def _text(parameters: Mapping[str, int]) -> str:
    return json.dumps(dict(parameters), indent=1) + "\n"


def _taken(folder: Path, parameters: Mapping[str, int], holds: str) -> InputError:
    return InputError(
        f"{folder} already holds {holds}, and the toy data set with {json.dumps(dict(parameters))} would be mixed into "
        "it. Choose another folder, or remove this one."
    )
