from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tasks
from backbones import InputError, UsageError, operators
from harness import provenance
from tasks.segmentation import ade20k_classes
from tasks.segmentation.annotations import CLASS_FILE, class_colours, class_names
from tests.support.label_maps import NAMES, SIZE, draw_folder, save

ADAPTER = tasks.get("ade20k")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "ADEChallengeData2016")


def test_samples_are_the_images_by_name(folder: Path) -> None:
    samples = ADAPTER.samples(folder, "train")
    assert [s.id for s in samples] == [f"ADE_train_{number + 1:08d}" for number in range(5)]
    assert samples[1].inputs["image"] == str(folder / "images/training/ADE_train_00000002.jpg")
    assert samples[1].inputs["map"] == str(folder / "annotations/training/ADE_train_00000002.png")
    assert ADAPTER.labels(folder) == ("sky", "tree", "road")  # the first of each class's names
    assert samples[1].annotation["map"] == "annotations/training/ADE_train_00000002.png"
    assert samples[1].annotation["classes"] == 3


def test_the_data_hash_covers_the_label_maps_and_not_where_they_lie(folder: Path, tmp_path: Path) -> None:
    before = provenance.data_sha256(ADAPTER, ADAPTER.samples(folder, "val"), folder)
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert provenance.data_sha256(ADAPTER, ADAPTER.samples(moved, "val"), moved) == before
    map_file = moved / "annotations/validation/ADE_val_00000002.png"
    ids = np.array(Image.open(map_file))
    ids[0, 0] = (ids[0, 0] + 1) % 4
    save(map_file, ids)
    assert provenance.data_sha256(ADAPTER, ADAPTER.samples(moved, "val"), moved) != before


@pytest.mark.parametrize("place", ["release_test/testing", "../release_test/testing", "images/testing"])
def test_test_images_lie_where_their_archive_was_unpacked(folder: Path, place: str) -> None:
    target = folder / place
    if place != "release_test/testing":
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "release_test/testing").rename(target)
    samples = ADAPTER.samples(folder, "test")
    assert [s.id for s in samples] == ["ADE_test_00000001", "ADE_test_00000002"]
    assert samples[0].annotation is None
    assert Path(samples[0].inputs["image"]).is_file()


def test_test_images_lie_beside_a_link_to_the_data_folder(folder: Path, tmp_path: Path) -> None:
    """Not beside what it leads to."""
    data = tmp_path / "linked"
    data.mkdir()
    (data / "ADEChallengeData2016").symlink_to(folder)
    (folder / "release_test").rename(data / "release_test")
    samples = ADAPTER.samples(ADAPTER.data_folder(data), "test")
    assert [Path(sample.inputs["image"]).parents[1] for sample in samples] == [data / "release_test"] * 2
    assert all(Path(sample.inputs["image"]).is_file() for sample in samples)


def test_a_listed_test_image_that_is_absent_is_found(folder: Path) -> None:
    names = ["ADE_test_00000002.jpg", "ADE_test_00000001.jpg", "ADE_test_00000003.jpg"]
    (folder / "release_test/list.txt").write_text("\n".join(names) + "\n")
    assert [s.id for s in ADAPTER.samples(folder, "test")] == [f"ADE_test_0000000{number}" for number in (1, 2, 3)]
    (wrong,) = [f.text for f in ADAPTER.check(folder, decode=False, progress=lambda i, _: i) if not f.ok]
    assert "test: 1 of 3 images absent" in wrong
    assert "ADE_test_00000003.jpg" in wrong


def test_without_a_class_file_the_classes_are_the_official_ones(folder: Path) -> None:
    (folder / CLASS_FILE).unlink()
    names = class_names(folder)
    assert (len(names), len(set(names)), names[0], names[7], names[149]) == (150, 150, "wall", "bed", "flag")


def test_the_official_class_file_has_a_column_more_in_the_archive(folder: Path) -> None:
    rows = [f"{number}\t0.1\t5\t4\t1\t{name}" for number, name in enumerate(NAMES, 1)]
    (folder / CLASS_FILE).write_text("\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows]))
    assert class_names(folder) == ("sky", "tree", "road")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"has no header with the tab-separated columns Idx and Name"),
        ("1\tsky\n2\ttree\n", r"has no header"),
        ("Idx\tName\n1\tsky\n3\ttree\n", r"class 2 is not a row with Idx 2 and a Name, but \['3', 'tree'\]"),
        ("Idx\tName\n1\tsky\n2\n", r"class 2 is not a row with Idx 2 and a Name, but \['2'\]"),
        ("Idx\tName\n", r"lists 0 classes"),
        ("Idx\tName\n" + "".join(f"{n}\tn{n}\n" for n in range(1, 257)), r"256 classes; maps of 8 bits have room"),
        ("Idx\tName\n1\tscreen, door\n2\tscreen\n", r"has the class screen twice"),
    ],
)
def test_a_class_file_of_another_form_is_told(folder: Path, content: str, message: str) -> None:
    (folder / CLASS_FILE).write_text(content)
    with pytest.raises(InputError, match=message):
        ADAPTER.samples(folder, "val")
    (finding,) = ADAPTER.check(folder, decode=False, progress=lambda items, _: items)
    assert not finding.ok


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("annotations/validation/ADE_val_00000003.png", "annotations/validation lacks 1 label maps, such as that of "),
        ("images/validation/ADE_val_00000003.jpg", "images/validation lacks 1 images, such as that of "),
    ],
)
def test_an_image_without_its_map_and_a_map_without_its_image_are_told(folder: Path, gone: str, message: str) -> None:
    (folder / gone).unlink()
    with pytest.raises(InputError, match=f"{message}ADE_val_00000003.*Restore them"):
        ADAPTER.samples(folder, "val")
    wrong = [f.text for f in ADAPTER.check(folder, decode=False, progress=lambda items, _: items) if not f.ok]
    assert len(wrong) == 1


def test_what_is_not_there_is_told(folder: Path) -> None:
    save(folder / "images/validation/ADE_val_00000001.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match=r"ADE_val_00000001.jpg and ADE_val_00000001.png are images of one name"):
        ADAPTER.samples(folder, "val")
    shutil.rmtree(folder / "release_test")
    with pytest.raises(InputError, match=r"No ADE20K test images under .*Unpack release_test.zip"):
        ADAPTER.samples(folder, "test")
    shutil.rmtree(folder / "images/training")
    shutil.rmtree(folder / "annotations")
    with pytest.raises(InputError, match=r"No ADE20K train images under .*harness toy"):
        ADAPTER.samples(folder, "train")
    with pytest.raises(UsageError, match="val"):
        ADAPTER.samples(folder, "vall")


def test_check_counts_and_opens_every_map(folder: Path) -> None:
    def findings(decode: bool) -> list:
        return ADAPTER.check(folder, decode=decode, progress=lambda items, title: items)

    assert all(finding.ok for finding in findings(decode=True))
    texts = [finding.text for finding in findings(decode=False)]
    assert texts == [
        f"classes: the 3 of {CLASS_FILE}",
        "train: 5 images (official: 20,210)",
        "val: 4 images (official: 2,000)",
        "test: 2 images (official: 3,352)",
    ]
    bad = {
        "annotations/training/ADE_train_00000002.png": np.zeros((SIZE[1], 3), np.uint8),
        "annotations/validation/ADE_val_00000001.png": np.full((SIZE[1], SIZE[0]), 4, np.uint8),
    }
    for file, pixels in bad.items():
        save(folder / file, pixels)
    (folder / "images/validation/ADE_val_00000004.jpg").write_bytes(b"no image")
    assert all(finding.ok for finding in findings(decode=False))  # nothing is opened
    wrong = [finding.text for finding in findings(decode=True) if not finding.ok]
    for file in (*bad, "images/validation/ADE_val_00000004.jpg"):
        assert any(file in text for text in wrong), file
    assert len(wrong) == 4  # the broken image as an image, and its size beside its map's
    assert "3 × 20 pixels, and image" in " ".join(wrong)
    assert "has the id 4, and there are 3 classes" in " ".join(wrong)


def test_the_benchmarks_classes_have_its_colours() -> None:
    """Wall, building and sky in the colours of the official palette (sceneparsing, color150.mat)."""
    colours = class_colours(ade20k_classes.NAMES)
    assert colours.shape == (150, 3)
    assert colours[:3].tolist() == [[120, 120, 120], [180, 120, 120], [6, 230, 230]]
    others = class_colours(("sky", "tree", "road"))
    assert len({tuple(colour) for colour in others.tolist()}) == 3


def test_the_benchmarks_classes_have_the_names_of_mmsegmentation() -> None:
    operators.provide()
    from mmseg.datasets import ADE20KDataset

    assert [name.strip() for name in ADE20KDataset.METAINFO["classes"]] == list(ade20k_classes.NAMES)
