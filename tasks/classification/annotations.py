"""ImageNet-1K on disk: class folders, the index files of the BEiT-3 code, ReaL labels.

train/<class>/<image>, val/<class>/<image>                 class ids count the sorted folders from 0
train-*.tar, val-*.tar                                     shards instead (`tasks.common.shards`): an image and
                                                           .cls, the class id, of each sample; with
classes.txt                                                a line for each class, in the order of the ids
imagenet.train.index.jsonl, imagenet.val.index.jsonl       a line {"image_path": …, "label": class id} per image
real.json                                                  ReaL labels: a list of class ids per validation image
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from backbones.errors import InputError
from backbones.files import reading
from tasks.adapter import Sample
from tasks.common import shards
from tasks.common.packing import Packed
from tasks.common.reading import Remembered, field, read_json, read_lines

SPLITS = ("train", "val")
EXTENSIONS = {".jpeg", ".jpg", ".png", ".bmp", ".webp"}
REAL_FILE = "real.json"
CLASSES = "classes.txt"
Row = tuple[str, str, int, str]  # image path, place of the image, label, location in a file
VAL_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")


def class_names(root: Path) -> list[str]:
    """Names of the class folders in the order of the class ids; the training split decides when it is there.

    Raises:
        InputError: neither split is there.
    """
    for split in SPLITS:
        if _index_file(root, split).is_file():
            return _index_classes(_index_file(root, split))
        if shards.are_in(root, split):
            return _listed_classes(root / CLASSES)
        if (root / split).is_dir():
            return _class_folders(root / split)
    raise _no_split(root, "train")


def read_samples(root: Path, split: str) -> Packed:
    """The samples of `train` or `val`; the index file wins over shards, and these over the class folders.

    Each sample's id is the image path relative to `root`, or what it would be in class folders; its inputs are that
    path, or the image's place in a shard; its annotation is {"label": class id}, with "real": class ids too for the
    validation split where there are ReaL labels.

    Raises:
        InputError: absent or empty folders, an index line of another form, a label out of range, a class that the
            training split lacks, an image without ReaL labels where there are some.
    """
    real = _real_labels(root) if split == "val" else None
    largest, smallest = (-1, "", ""), (0, "", "")  # labels, each with the path and its location
    names = set()
    index = _index_file(root, split)
    rows = _index_rows(index) if index.is_file() else _shard_rows(root, split) if shards.are_in(root, split) else None

    def read() -> Iterator[Sample]:
        nonlocal largest, smallest
        for path, place, label, where in rows or _folder_rows(root, split):
            names.add(_class_of(path))
            if label > largest[0]:
                largest = label, path, where
            if label < smallest[0]:
                smallest = label, path, where
            yield Sample(path, place, {"label": label} | ({} if real is None else {"real": _real_of(path, real)}))

    samples = Packed.of(read())
    if index.is_file():
        _index_classes.keep(index, sorted(names))
    classes = len(class_names(root))
    for label, path, where in (smallest, largest):
        if not 0 <= label < classes:
            raise InputError(
                f"{where}: label {label} of {path} is out of range: there are {classes} classes, 0 to "
                f"{classes - 1}. Labels count the sorted class folders from 0."
            )
    return samples


def _index_file(root: Path, split: str) -> Path:
    return root / f"imagenet.{split}.index.jsonl"


def _index_rows(file: Path) -> Iterator[Row]:
    """The images of an official index file."""
    path = None
    for where, row in read_lines(file, what="the official index of images"):
        path, label = (field(row, name, where=where) for name in ("image_path", "label"))
        if not isinstance(path, str) or type(label) is not int:
            raise InputError(
                f'{where} is not of the form {{"image_path": "…", "label": 0}}: {str(row)[:80]}. '
                "Fix the line or make the index again."
            )
        path = path.lstrip("/")  # official rows may keep a slash from the path in front of them
        yield path, path, label, where
    if path is None:
        raise InputError(f"{file} is empty. Make the index again, or remove it to use the class folders.")


def _class_of(path: str) -> str:
    """The folder that an image is in."""
    return path.rpartition("/")[0].rpartition("/")[2]


def _read_index_classes(file: Path) -> list[str]:
    return sorted({_class_of(path) for path, *_ in _index_rows(file)})


_index_classes = Remembered(_read_index_classes)


def _folder_rows(root: Path, split: str) -> Iterator[Row]:
    folder = root / split
    if not folder.is_dir():
        raise _no_split(root, split)
    classes = _class_folders(folder)
    if not classes:
        raise InputError(f"{folder} has no class folders. Expected {folder}/<class>/<image>, as ImageNet is laid out.")
    all_classes = {name: label for label, name in enumerate(class_names(root))}
    for name in classes:
        if name not in all_classes:
            raise InputError(
                f"Class folder {folder / name} is not among those of {root / 'train'}. Remove or rename it."
            )
        images = sorted(e.name for e in (folder / name).iterdir() if e.suffix.lower() in EXTENSIONS)
        if not images:
            raise InputError(f"Class folder {folder / name} has no images. Fill it, or remove it from every split.")
        for image in images:
            path = f"{split}/{name}/{image}"
            yield path, path, all_classes[name], str(folder / name)


def _shard_rows(root: Path, split: str) -> Iterator[Row]:
    names, seen = _listed_classes(root / CLASSES), set()
    for each in shards.read(root, split):
        where = f"{root / each.shard}, sample {each.key}"
        label = each.texts.get("cls", "").strip()
        if not label.isdecimal():
            raise each.lacks("no class (.cls, a number from 0)")
        name = names[int(label)] if int(label) < len(names) else label  # out of range: told with the others
        path = f"{split}/{name}/{each.image.name.rpartition('/')[2]}"
        if path in seen:
            raise InputError(f"{where}: there is another {path} in the shards. Leave one of them out.")
        seen.add(path)
        yield path, each.place, int(label), where


def _listed_classes(file: Path) -> list[str]:
    if not file.is_file():
        raise InputError(
            f"The images are in shards, and there is no {file}: a line for each class, in the order of the ids in .cls "
            "(sorted class folders). Put it there."
        )
    with reading(file, "names of classes", fix="Write a line for each class, in the order of their ids."):
        names = file.read_text(encoding="utf-8").split("\n")
        names = [name.strip() for name in names[: len(names) - (not names[-1].strip())]]
        if not names or not all(names) or len(set(names)) < len(names):
            raise ValueError("a line is empty or there twice, or there is none")
    return names


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def _no_split(root: Path, split: str) -> InputError:
    return InputError(
        f"No {split} images under {root}: neither {split}/<class>/<image> nor {_index_file(root, split).name}. "
        "Point --data at the ImageNet folder, or draw a practice set with `harness toy FOLDER`."
    )


def _real_labels(root: Path) -> list[list[int]] | None:
    """ReaL labels in the order of the validation file numbers, when the file is there."""
    file = root / REAL_FILE
    if not file.is_file():
        return None
    labels = read_json(file, what="ReaL labels")
    if not (isinstance(labels, list) and all(isinstance(entry, list) for entry in labels)):
        raise InputError(f"{file} is not the ReaL label file, a JSON list with a list of labels per image.")
    return labels


def _real_of(path: str, real: list[list[int]]) -> list[int]:
    match = VAL_NUMBER.search(path)
    if match is None or not 1 <= int(match[1]) <= len(real):
        raise InputError(
            f"{REAL_FILE} needs the original file names (ILSVRC2012_val_00000001 to {len(real):08d}); {path} is not "
            f"one. Remove {REAL_FILE} to score without ReaL labels."
        )
    return real[int(match[1]) - 1]
