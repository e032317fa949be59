"""ADE20K on disk: the official archives of the MIT Scene Parsing Benchmark, or another data set in their form.

objectInfo150.txt                               the classes; the official 150 where it is absent
images/training/ADE_train_00000001.jpg …        also validation
annotations/training/ADE_train_00000001.png …   also validation: 0 for no class, 1 + class elsewhere; enough to score
release_test/testing/ADE_test_00000001.jpg …    the test archive, in the folder or beside it; also images/testing
release_test/list.txt                           its file names
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.common.reading import Remembered, read_text, repeated
from tasks.segmentation import ade20k_classes
from tasks.segmentation.label_maps import read_map, require_same_size
from tasks.segmentation.metrics import MAX_CLASSES

CLASS_FILE = "objectInfo150.txt"
FOLDERS = {"train": "training", "val": "validation"}
TEST_FOLDERS = ("release_test/testing", "../release_test/testing", "images/testing")
ARCHIVED = ".jpg"  # in the official archive
IMAGES = {ARCHIVED, ".jpeg", ".png"}


def class_names(root: Path) -> tuple[str, ...]:
    """The classes of a data folder in the order of their ids, each by the first of its names.

    Raises:
        InputError: a class file of another form than the official one.
    """
    file = root / CLASS_FILE
    return _class_file(file) if file.is_file() else ade20k_classes.NAMES


def class_colours(names: Sequence[str]) -> np.ndarray:
    """A colour for each class, uint8 [classes, 3]: the benchmark's palette for its 150, else distinct ones."""
    from tasks.common.pictures import distinct_colours

    if len(names) != len(ade20k_classes.NAMES):
        return distinct_colours(len(names))
    from backbones import operators

    operators.provide()
    from mmseg.datasets import ADE20KDataset

    return np.array(ADE20KDataset.METAINFO["palette"], np.uint8)


def _read_class_file(file: Path) -> tuple[str, ...]:
    """Names of a tab-separated table with the columns Idx (1, 2, …) and Name (names divided by commas)."""
    lines = [line for line in read_text(file, what="the classes").splitlines() if line.strip()]
    header, *rows = [[cell.strip() for cell in line.split("\t")] for line in lines] or [[]]
    if not {"Idx", "Name"} <= set(header):
        raise InputError(
            f"{file} has no header with the tab-separated columns Idx and Name (found: {lines[:1]}). Use the official "
            "file's form: Idx, Ratio, Train, Val, Stuff, Name."
        )
    names = []
    for number, row in enumerate(rows, 1):
        cells = dict(zip(header, row, strict=False))
        if cells.get("Idx") != str(number) or not cells.get("Name"):
            raise InputError(f"{file}: class {number} is not a row with Idx {number} and a Name, but {row}. Fix it.")
        names.append(cells["Name"].split(",")[0].strip())
    if not 1 <= len(names) <= MAX_CLASSES:
        raise InputError(f"{file} lists {len(names)} classes; maps of 8 bits have room for 1 to {MAX_CLASSES}.")
    if duplicates := repeated(names):
        raise InputError(f"{file} has the class {duplicates[0]} twice. Give one of them another first name.")
    return tuple(names)


_class_file = Remembered(_read_class_file)


def read_samples(root: Path, split: str) -> list[Sample]:
    """The samples of `train` or `val`, sorted by name. Without any image, each is where the archive has it.

    inputs: {"image", "map": absolute paths}.
    annotation: {"map": relative path, "sha256": of the file, "classes": their number}.

    Raises:
        InputError: no maps, an image without its map, or among others with images a map without its image.
    """
    folder = FOLDERS[split]
    images = _images(root / "images" / folder)
    maps = {path.stem: path for path in sorted((root / "annotations" / folder).glob("*.png"))}
    if not images and not maps:
        raise InputError(
            f"No ADE20K {split} images under {root}: images/{folder} and annotations/{folder} are absent or empty. "
            "Unpack ADEChallengeData2016.zip there, or draw a practice set with `harness toy FOLDER`."
        )
    images = images or {name: root / "images" / folder / f"{name}{ARCHIVED}" for name in maps}
    _require_pairs(images, maps, root, folder)
    classes = len(class_names(root))
    with ThreadPoolExecutor() as pool:
        digests = pool.map(_sha256, maps.values())
        return [
            Sample(
                name,
                {"image": str(images[name].absolute()), "map": str(path.absolute())},
                {"map": path.relative_to(root).as_posix(), "sha256": digest, "classes": classes},
            )
            for (name, path), digest in zip(maps.items(), digests, strict=True)
        ]


def label_map(sample: Sample, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """The labels of a sample: uint8 [height, width], 0 for no class, 1 + class elsewhere.

    Args:
        size: width and height of its image, where they are known.

    Raises:
        InputError: absent, no map of ids, an id beyond the classes, or of another size.
    """
    path, what = sample.inputs["map"], f"Label map {sample.inputs['map']}"
    ids = read_map(Path(path), classes=sample.annotation["classes"], what=what)
    if size is not None:
        require_same_size(ids, size, what=what, than=f"image {sample.inputs['image']}")
    return ids


def unlabelled_samples(root: Path) -> list[Sample]:
    """The samples of the test split, sorted by name; inputs: {"image": absolute path}.

    Raises:
        InputError: no images.
    """
    # By name, not through the file system: the data folder may be a link to another disk.
    folders = [Path(os.path.abspath(root / folder)) for folder in TEST_FOLDERS]  # noqa: PTH100
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    images = _images(folder)
    if (listed := folder.parent / "list.txt").is_file():
        # What is listed and absent is found when the images are checked or opened.
        lines = read_text(listed, what="the names of the test images").split()
        images = {Path(name).stem: folder / name for name in sorted(lines)}
    if not images:
        raise InputError(
            f"No ADE20K test images under {folder}. Unpack release_test.zip into {root}: it holds release_test/testing."
        )
    return [Sample(name, {"image": str(path.absolute())}, None) for name, path in images.items()]


def _images(folder: Path) -> dict[str, Path]:
    """The images of a folder by name, sorted."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in IMAGES:
            if path.stem in found:
                raise InputError(f"{found[path.stem]} and {path.name} are images of one name. Remove one of them.")
            found[path.stem] = path
    return found


def _require_pairs(images: dict[str, Path], maps: dict[str, Path], root: Path, folder: str) -> None:
    for kind, where, missing in (
        ("label maps", f"annotations/{folder}", sorted(images.keys() - maps.keys())),
        ("images", f"images/{folder}", sorted(maps.keys() - images.keys())),
    ):
        if missing:
            raise InputError(
                f"{root / where} lacks {len(missing):,} {kind}, such as that of {missing[0]}. Restore them from "
                f"ADEChallengeData2016.zip: images/{folder} and annotations/{folder} hold the same names."
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
