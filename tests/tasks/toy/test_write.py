"""Drawing the toy set: the same bytes every time, whatever comes between, and never over something else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from backbones.errors import InputError, UsageError
from tasks import toy

SCALE = 0.01
TEXTS = {
    "nlvr2": "a73491f9c758fa7b51ec39681991b9212b1f427c63498c9447edc6a724f66804",
    "coco": "a406f280fadf6301a1aa5da471975243ddfc7ac18c66fb5af92f2feced9f518c",
    "flickr30k": "66031812580c36d51df3e15807f4fa64e284a4553d9c8c751a61103e2d319e54",
    "nocaps": "8936672b0fef7fc6afe53c9c06814518a897a37ca4dd815891357335cf36eea8",
}


def hashes(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def pictures(files: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if not name.endswith(".json")}


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
    assert toy.write(once, scale=SCALE) == {name: once / name for name in toy.FOLDERS}
    assert {path.name for path in once.iterdir()} == set(toy.FOLDERS)
    assert list(toy.FOLDERS) == ["imagenet", "nlvr2", "coco", "flickr30k", "nocaps"]


def test_the_same_arguments_write_the_same_bytes(once: Path, tmp_path: Path, name: str) -> None:
    toy.write(tmp_path, tasks=(name,), scale=SCALE)
    assert hashes(tmp_path / name) == hashes(once / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", TEXTS, indirect=True)
def test_texts_are_the_same_on_every_machine(once: Path, name: str) -> None:
    digest = hashlib.sha256()
    for path in sorted((once / name).rglob("*.json")):
        digest.update(path.read_bytes())
    assert digest.hexdigest() == TEXTS[name]


def test_more_pictures_keep_the_first_ones(once: Path, tmp_path: Path, name: str) -> None:
    toy.write(tmp_path, tasks=(name,), scale=20 * SCALE)
    first, more = pictures(hashes(once / name)), pictures(hashes(tmp_path / name))
    assert first.items() < more.items()


def test_other_seeds_and_splits_have_other_pictures(once: Path, tmp_path: Path, name: str) -> None:
    toy.write(tmp_path, tasks=(name,), scale=SCALE, seed=1)
    first, other = (pictures(hashes(root / name)) for root in (once, tmp_path))
    assert len({*first.values(), *other.values()}) == len(first) + len(other) > 20


def test_a_second_call_draws_nothing(once: Path) -> None:
    before = times(once)
    toy.write(once, scale=SCALE)
    assert times(once) == before


def test_an_interrupted_call_is_completed(once: Path, tmp_path: Path, name: str) -> None:
    """Stopped in the second split; what was there before is not drawn again."""
    titles = []

    def stop_later(indices: Iterable[int], title: str) -> Iterator[int]:
        titles.append(title)
        for index in indices:
            if len(titles) == 2 and index == 3:
                raise KeyboardInterrupt
            yield index

    folder = tmp_path / name
    with pytest.raises(KeyboardInterrupt):
        toy.write(tmp_path, tasks=(name,), scale=SCALE, progress=stop_later)
    assert not (folder / "toy.json").exists()
    before = {path: time for path, time in times(folder).items() if path.suffix != ".json"}
    assert 0 < len(before) < len(pictures(hashes(once / name)))
    victim = max(before)  # as if it had been on its way
    victim.rename(victim.with_name(victim.name + ".partial"))
    del before[victim]
    toy.write(tmp_path, tasks=(name,), scale=SCALE)
    assert before.items() <= times(folder).items()
    assert hashes(folder) == hashes(once / name)


def test_progress_wraps_each_split(tmp_path: Path) -> None:
    seen = []

    def watch(indices: range, title: str) -> range:
        seen.append((title, len(indices)))
        return indices

    toy.write(tmp_path, tasks=("imagenet", "nocaps"), scale=0.01, progress=watch)
    assert seen == [("draw train", 30), ("draw val", 10), ("draw nocaps val", 12), ("draw nocaps test", 12)]


@pytest.mark.parametrize("other", [{"seed": 1}, {"scale": 0.3}, {"image_size": 64}])
@pytest.mark.parametrize("finished", [True, False])
def test_other_parameters_are_refused(tmp_path: Path, name: str, other: dict[str, float], finished: bool) -> None:
    folder = toy.write(tmp_path, tasks=(name,), scale=SCALE)[name]
    if not finished:
        (folder / "toy.json").rename(folder / "toy.partial.json")
    before = hashes(tmp_path)
    with pytest.raises(InputError, match="already holds a toy data set drawn with") as caught:
        toy.write(tmp_path, **({"tasks": (name,), "scale": SCALE} | other))
    assert str(folder) in str(caught.value)
    assert hashes(tmp_path) == before


def test_foreign_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="already holds files that are no toy data set") as caught:
        toy.write(tmp_path, tasks=(name,), scale=SCALE)
    assert str(tmp_path / name) in str(caught.value)


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
    (tmp_path / name).write_text("in the way")
    with pytest.raises(InputError, match=str(tmp_path / name)):
        toy.write(tmp_path, tasks=(name,), scale=SCALE)


def test_the_marker_holds_the_parameters(once: Path) -> None:
    markers = {name: json.loads((once / name / "toy.json").read_text()) for name in toy.FOLDERS}
    assert markers["imagenet"] == {"version": 1, "seed": 0, "train": 30, "val": 10, "image_size": 80}
    assert markers["nlvr2"] == {"version": 1, "seed": 0, "train": 4, "dev": 4, "test1": 4, "image_size": 80}
    assert markers["coco"].keys() == {"version", "seed", "train2014", "val2014", "test2015", "image_size"}
