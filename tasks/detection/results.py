"""COCO's results files: a JSON list with one entry for each detection.

[{"image_id": 42, "category_id": 18, "score": 0.236, "bbox": [x, y, width, height]}, …], or with a "segmentation"
{"size": [height, width], "counts": "…"} in the place of the box or beside it. An empty list in the place of either is
no part of an entry, as pycocotools has it (SAHI writes `"segmentation": []`). Source: cocodataset.org, Results Format.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.common.reading import are_finite, collector_paused, read_json

if TYPE_CHECKING:
    import numpy as np

FIELDS = {"boxes": "bbox", "masks": "segmentation"}  # of an entry, by the part of a record
MAX_DETECTIONS = 100  # of an image that a server counts (cocodataset.org, Detection Evaluation)
# The file name that the server expects; the method's name ends in the part, so that both files fit into one folder.
_FILE = "detections_{split}2017_{name}-{part}_results"


def read(path: Path) -> list[dict[str, Any]]:
    """Records of the images that a results file names, in the order of their first entries.

    Returns:
        For each image "id", "scores" float64 [n], "labels" int64 [n] (category ids) and what the entries have of
        "boxes" float64 [n, 4] and "masks" (n RLE objects).

    Raises:
        InputError: no such list, or an entry without its fields, with a number that is not one, or with other parts
            than the first; the message has the entry's index, from 0.
    """
    with collector_paused():
        entries = read_json(path, what="COCO results")
        if not isinstance(entries, list):
            raise InputError(
                f'{path} is not a list of {{"image_id": …, "category_id": …, "score": …, "bbox": […]}}, as results of '
                "COCO are."
            )
        first = entries[0] if entries and isinstance(entries[0], dict) else {}
        found = _parts_of(first)
        images: dict[int, list[dict]] = {}
        for number, entry in enumerate(entries):
            if problem := _problem(entry, found):
                raise InputError(f"{path}, entry {number} (from 0) {problem}: {str(entry)[:100]}. Fix or remove it.")
            images.setdefault(entry["image_id"], []).append(entry)
        return [_record(image, own, found) for image, own in images.items()]


def parts(predictions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Parts of the records: "boxes", "masks" or both.

    Raises:
        InputError: records disagree, or have neither.
    """
    by_parts = {tuple(part for part in FIELDS if part in record): image for image, record in predictions.items()}
    if len(by_parts) > 1 or () in by_parts:
        found = ", ".join(f"image {image} has {' and '.join(own) or 'neither'}" for own, image in by_parts.items())
        raise InputError(
            f"Every prediction of a file has the same parts, boxes or masks or both, empty ones too; here {found}. "
            "Predict all images with one model."
        )
    return [part for own in by_parts for part in own]


def empty(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The record of an image without detections, with the parts that the others have."""
    return _arrays([], [part for part in FIELDS if not records or part in records[0]])


def archive(
    predictions: Mapping[str, Mapping[str, Any]],
    samples: Iterable[Sample],
    categories: Collection[int],
    *,
    part: str,
    split: str,
    name: str,
) -> tuple[str, bytes]:
    """The zip file of one part for its test server: its name and content.

    It holds one results file: the 100 best detections of each image, coordinates of boxes clipped to the image and
    rounded to tenths of a pixel, scores to six digits, so that it stays small.

    Raises:
        InputError: see `tasks.detection.metrics.checked`; the message names the image.
    """
    stem = _FILE.format(split=split, name=name, part=part)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file, file.open(f"{stem}.json", "w") as results:
        separator = "["
        for sample in samples:
            for entry in _entries(predictions[sample.id], sample, categories, part):
                results.write((separator + json.dumps(entry, separators=(",", ":"))).encode())
                separator = ",\n"
        results.write(b"]" if separator != "[" else b"[]")
    return f"{stem}.zip", content.getvalue()


def _problem(entry: Any, wanted: Sequence[str]) -> str | None:
    if not isinstance(entry, dict):
        return "is not a JSON object"
    for name in ("image_id", "category_id"):
        if not isinstance(entry.get(name), int):
            return f"has no whole number as '{name}'"
    if not are_finite([entry.get("score")]):
        return "has no finite number as 'score'"
    if not wanted:
        return "has neither 'bbox' nor 'segmentation'"
    if _parts_of(entry) != list(wanted):
        return f"has other parts than entry 0, which has {' and '.join(FIELDS[part] for part in wanted)}"
    if "boxes" in wanted and not (are_finite(entry["bbox"]) and len(entry["bbox"]) == 4):
        return "has no four finite numbers as 'bbox'"
    if "masks" in wanted:
        code = entry["segmentation"]
        if not (isinstance(code, dict) and isinstance(code.get("counts"), str) and "size" in code):
            return 'has no {"size": [height, width], "counts": "…"} as \'segmentation\''
    return None


def _parts_of(entry: Mapping[str, Any]) -> list[str]:
    return [part for part, name in FIELDS.items() if entry.get(name, []) != []]


def _record(image: int, entries: Sequence[Mapping[str, Any]], found: Sequence[str]) -> dict[str, Any]:
    return {"id": str(image), **_arrays(entries, found)}


def _arrays(entries: Sequence[Mapping[str, Any]], found: Sequence[str]) -> dict[str, Any]:
    import numpy as np

    record: dict[str, Any] = {
        "scores": np.array([entry["score"] for entry in entries], dtype=np.float64),
        "labels": np.array([entry["category_id"] for entry in entries], dtype=np.int64),
    }
    if "boxes" in found:
        record["boxes"] = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    if "masks" in found:
        record["masks"] = [entry["segmentation"] for entry in entries]
    return record


def _entries(
    record: Mapping[str, Any], sample: Sample, categories: Collection[int], part: str
) -> Iterator[dict[str, Any]]:
    import numpy as np

    from tasks.detection.metrics import checked

    record = checked(record, sample.inputs, categories, image=sample.id)
    best = np.argsort(-record["scores"], kind="stable")[:MAX_DETECTIONS]
    boxes = _clipped(record["boxes"], sample.inputs).round(1).tolist() if part == "boxes" else None
    for index in best:
        entry = {
            "image_id": int(sample.id),
            "category_id": int(record["labels"][index]),
            "score": float(f"{record['scores'][index]:.6g}"),
        }
        yield entry | {FIELDS[part]: boxes[index] if boxes else _text(record["masks"][index])}


def _clipped(boxes: np.ndarray, size: Mapping[str, int]) -> np.ndarray:
    """Boxes (x, y, width, height) cut off at the image's border."""
    import numpy as np

    limits = [size["width"], size["height"]]
    start = np.clip(boxes[:, :2], 0, limits)
    end = np.clip(boxes[:, :2] + boxes[:, 2:], 0, limits)
    return np.concatenate([start, end - start], axis=1)


def _text(code: Mapping[str, Any]) -> dict[str, Any]:
    counts = code["counts"]
    return {"size": list(code["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}
