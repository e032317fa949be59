"""Image-text pairs in tar shards; `tasks.common.shards` has their layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.common.image_files import UNDECODABLE, decoded
from tasks.common.shards import ShardSample, content, scanned

CAPTION = "caption"  # field of a sample's .json where it has no .txt


def pairs(shard: Path) -> Iterator[Sample]:
    """Index the pairs of a shard: `inputs` have `shard`, `offset`, `size` (bytes) and `text`.

    Raises:
        InputError: not a tar file, one that is cut off, or a sample without an image or a text.
    """
    return paired(scanned(shard), shard.parent)


def paired(samples: Iterable[ShardSample], folder: Path) -> Iterator[Sample]:
    """The pairs of samples of shards in a folder; see `pairs`."""
    for each in samples:
        place, text = each.image, _text(each)
        if text is None:
            raise each.lacks(f"no text (.txt, or {CAPTION} in .json)")
        inputs: dict[str, Any] = {
            "shard": str(folder / each.shard), "offset": place.offset, "size": place.size, "text": text,
        }  # fmt: skip
        yield Sample(f"{each.shard}/{each.key}", inputs, None)


def image(path: Path, offset: int, size: int) -> Image.Image:
    """Decode an image within a shard, RGB.

    Raises:
        InputError: the shard is gone, or the bytes are no image.
    """
    try:
        return decoded(content(path, offset=offset, size=size))
    except UNDECODABLE as error:
        raise InputError(
            f"The image at byte {offset} of {path} cannot be decoded ({error}). Replace the shard with the original "
            "file."
        ) from error


def _text(sample: ShardSample) -> str | None:
    if "txt" in sample.texts:
        return sample.texts["txt"].strip()
    if "json" not in sample.texts:
        return None
    try:
        return json.loads(sample.texts["json"]).get(CAPTION)
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"{sample.shard}, sample {sample.key}: its text cannot be read ({error}). Write the shard again."
        ) from error
