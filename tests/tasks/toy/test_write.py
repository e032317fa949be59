"""Drawing the toy set: the same bytes every time, whatever comes between, and never over something else."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from backbones.errors import InputError, UsageError
from tasks import toy

pytestmark = pytest.mark.slow  # draws pictures

SCALE = 0.01
TEXTS = {  # by folder; of the coco folder without and with the files of instances
    "nlvr2": "687a31c2d51104af0dab443f60ab301c70f620fe5524d506cf1e0b9f69484890",
    "coco": "d4815b57496d9dc6bacbe10c2cec88b5ea4bb05b1bc241c87f3f75897e2f722f",
    "coco 2017": "0e7c6c2dbb7e910bc9a3c81cdcfd5a964feb30322367521b505a135c5654b72d",
    "flickr30k": "bd008914161f2ed8e3caac3829ad3782eb1a5a09f46e089e84965444c302ba8e",
    "nocaps": "149c370886995b3cfdfad7070ceb7577687c72876030c27b16432da358cccb82",
    "ADEChallengeData2016": "484cac288bb7fbe94a3863ec0eb46bb7f4db96b43cf70a17b847c21f175ad3bd",
}


def hashes(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def pictures(files: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if not name.endswith((".json", ".txt"))}


def place(root: Path, name: str) -> Path:
    return root / toy.FOLDERS[name].FOLDER


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, small. Read only."""
    root = tmp_path_factory.mktemp("toy")
    toy.write(root, scale=SCALE)
    return root


@pytest.fixture(params=list(toy.FOLDERS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_folders_are_returned_by_name(once: Path) -> None:
    assert list(toy.FOLDERS) == ["imagenet", "ade20k", "nlvr2", "coco", "flickr30k", "nocaps"]
    folders = {"ade20k": "ADEChallengeData2016"}
    folders = {name: once / folders.get(name, name) for name in toy.FOLDERS}
    assert toy.write(once, scale=SCALE) == folders
    assert set(once.iterdir()) == set(folders.values())


def test_the_same_arguments_write_the_same_bytes(once: Path, tmp_path: Path, name: str) -> None:
    toy.write(tmp_path, tasks=(name,), scale=SCALE)
    assert hashes(place(tmp_path, name)) == hashes(place(once, name))
    assert list(tmp_path.iterdir()) == [place(tmp_path, name)]


@pytest.mark.parametrize("texts", TEXTS)
def test_texts_are_the_same_on_every_machine(once: Path, texts: str) -> None:
    folder, _, year = texts.partition(" ")
    files = [path for path in (once / folder).rglob("*") if path.suffix in (".json", ".txt")]
    if folder == "coco":
        files = [path for path in files if ("2017" in path.name) == bool(year)]
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.name != "toy.json"):
        digest.update(path.read_bytes())
    assert digest.hexdigest() == TEXTS[texts]


def test_more_pictures_keep_the_first_ones(
    once: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = toy.FOLDERS[name]
    more_of_each = {split: max(form.LEAST, round(SCALE * size)) + 5 for split, size in form.SIZES.items()}
    monkeypatch.setattr(form, "SIZES", more_of_each)
    toy.write(tmp_path, tasks=(name,))
    first, more = (pictures(hashes(place(root, name))) for root in (once, tmp_path))
    assert first.items() < more.items()


def test_other_seeds_and_splits_have_other_pictures(once: Path, tmp_path: Path, name: str) -> None:
    toy.write(tmp_path, tasks=(name,), scale=SCALE, seed=1)
    first, other = (pictures(hashes(place(root, name))) for root in (once, tmp_path))
    assert len({*first.values(), *other.values()}) == len(first) + len(other) > 20


def test_a_second_call_draws_nothing(once: Path) -> None:
    before = times(once)
    toy.write(once, scale=SCALE)
    assert times(once) == before


@pytest.mark.parametrize(("name", "split"), [*((name, 2) for name in toy.FOLDERS), ("coco", 5)], indirect=["name"])
def test_an_interrupted_call_is_completed(once: Path, tmp_path: Path, name: str, split: int) -> None:
    """Stopped in that split; what was there before is not drawn again."""
    titles = []

    def stop_later(indices: Iterable[int], title: str) -> Iterator[int]:
        titles.append(title)
        for index in indices:
            if len(titles) == split and index == 3:
                raise KeyboardInterrupt
            yield index

    folder = place(tmp_path, name)
    with pytest.raises(KeyboardInterrupt):
        toy.write(tmp_path, tasks=(name,), scale=SCALE, progress=stop_later)
    assert not (folder / "toy.json").exists()
    before = {path: time for path, time in times(folder).items() if path.suffix != ".json"}
    assert 0 < len(before) < len(pictures(hashes(place(once, name))))
    victim = max(before)  # as if it had been on its way
    victim.rename(victim.with_name(victim.name + ".partial"))
    del before[victim]
    toy.write(tmp_path, tasks=(name,), scale=SCALE)
    assert before.items() <= times(folder).items()
    assert hashes(folder) == hashes(place(once, name))


def test_progress_wraps_each_split(tmp_path: Path) -> None:
    seen = []

    def watch(indices: range, title: str) -> range:
        seen.append((title, len(indices)))
        return indices

    toy.write(tmp_path, tasks=("imagenet", "nocaps"), scale=0.01, progress=watch)
    assert seen == [("draw train", 30), ("draw val", 10), ("draw nocaps val", 12), ("draw nocaps test", 12)]


@pytest.mark.parametrize("other", [{"seed": 1}, {"scale": 0.3}, {"image_size": 64}])
@pytest.mark.parametrize("finished", [True, False])
def test_other_parameters_are_refused(
    once: Path, tmp_path: Path, name: str, other: dict[str, float], finished: bool
) -> None:
    folder = place(tmp_path, name)
    shutil.copytree(place(once, name), folder)
    if not finished:
        (folder / "toy.json").rename(folder / "toy.partial.json")
    before = hashes(tmp_path)
    with pytest.raises(InputError, match="already holds a toy data set drawn with") as caught:
        toy.write(tmp_path, **({"tasks": (name,), "scale": SCALE} | other))
    assert str(folder) in str(caught.value)
    assert hashes(tmp_path) == before


def test_foreign_files_are_refused(tmp_path: Path, name: str) -> None:
    (place(tmp_path, name) / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="already holds files that are no toy data set") as caught:
        toy.write(tmp_path, tasks=(name,), scale=SCALE)
    assert str(place(tmp_path, name)) in str(caught.value)


@pytest.mark.parametrize("wrong", [{"scale": 0}, {"scale": float("nan")}, {"seed": -1}, {"image_size": 8}])
def test_arguments_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        toy.write(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_unknown_names_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean nlvr2"):
        toy.write(tmp_path, tasks=("nocaps", "nlvr"))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, name: str) -> None:
    place(tmp_path, name).write_text("in the way")
    with pytest.raises(InputError, match=str(place(tmp_path, name))):
        toy.write(tmp_path, tasks=(name,), scale=SCALE)


def test_the_marker_holds_the_parameters(once: Path) -> None:
    markers = {name: json.loads((place(once, name) / "toy.json").read_text()) for name in toy.FOLDERS}
    assert markers["imagenet"] == {"version": 2, "seed": 0, "train": 30, "val": 10, "image_size": 80}
    assert markers["nlvr2"] == {"version": 2, "seed": 0, "train": 4, "dev": 4, "test1": 4, "image_size": 80}
    assert markers["ade20k"] == {"version": 2, "seed": 0, "training": 12, "validation": 12, "image_size": 80}
    parts = {"train2014": 15, "val2014": 12, "test2015": 12, "train2017": 12, "val2017": 12, "test2017": 12}
    assert markers["coco"] == {"version": 3, "seed": 0, **parts, "image_size": 80}
