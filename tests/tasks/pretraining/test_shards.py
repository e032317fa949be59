from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from backbones.errors import InputError
from tasks.common.shards import BLOCK, write_index
from tasks.pretraining import shards, sources
from tests.support.shards import png, served, write


def samples(count: int) -> dict[str, bytes]:
    """Files in webdataset's order: those of a sample follow each other."""
    found = {}
    for number in range(count):
        found |= {f"part/{number:03d}.png": png(number), f"part/{number:03d}.txt": f"picture {number}".encode()}
    return found


def test_pairs_are_found_at_their_places(tmp_path: Path) -> None:
    shard = write(tmp_path / "0.tar", samples(3))
    found = list(shards.pairs(shard))
    assert [pair.inputs["text"] for pair in found] == ["picture 0", "picture 1", "picture 2"]
    for number, pair in enumerate(found):
        image = shards.image(Path(pair.inputs["shard"]), pair.inputs["offset"], pair.inputs["size"])
        assert np.asarray(image)[0, 0].tolist() == [number, 0, 255 - number]


def test_the_index_is_that_of_webdataset(tmp_path: Path) -> None:
    """Keys end at the first dot of the file's name, other files of a sample are left alone."""
    members = {
        "a.b/one.png": png(1), "a.b/one.json": json.dumps({"caption": "first", "url": "x"}).encode(),
        "a.b/one.cls": b"7", "two.seg.png": png(9), "two.png": png(2), "two.txt": b" second \n",
    }  # fmt: skip
    found = list(shards.pairs(write(tmp_path / "0.tar", members)))
    assert [pair.id for pair in found] == ["0.tar/a.b/one", "0.tar/two"]
    assert [pair.inputs["text"] for pair in found] == ["first", "second"]
    second = found[1].inputs
    assert np.asarray(shards.image(Path(second["shard"]), second["offset"], second["size"]))[0, 0, 0] == 2


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9, 0.999])
def test_a_shard_that_is_cut_off_is_refused(tmp_path: Path, kept: float) -> None:
    shard = write(tmp_path / "0.tar", samples(20))
    end = list(shards.pairs(shard))[-1].inputs["offset"]  # the rest of the file is zeros, as of any tar file
    shard.write_bytes(shard.read_bytes()[: int(end * kept)])
    with pytest.raises(InputError, match=r"0\.tar is not a complete tar file .*download it again"):
        list(shards.pairs(shard))


def test_a_shard_that_is_cut_off_between_samples_is_refused(tmp_path: Path) -> None:
    shard = write(tmp_path / "0.tar", samples(3))
    second = list(shards.pairs(shard))[1].inputs["offset"] - BLOCK
    shard.write_bytes(shard.read_bytes()[:second])
    with pytest.raises(InputError, match="its end is missing"):
        list(shards.pairs(shard))


@pytest.mark.parametrize(("left_out", "missing"), [("png", "no image"), ("txt", "no text")])
def test_half_a_pair_is_refused_by_name(tmp_path: Path, left_out: str, missing: str) -> None:
    members = samples(2)
    del members[f"part/001.{left_out}"]
    with pytest.raises(InputError, match=f"sample part/001 has {missing}"):
        list(shards.pairs(write(tmp_path / "0.tar", members)))


def test_an_image_that_does_not_decode_is_named_by_its_place(tmp_path: Path) -> None:
    shard = write(tmp_path / "0.tar", {"a.png": png(1)[:40], "a.txt": b"a"})
    (pair,) = shards.pairs(shard)
    with pytest.raises(InputError, match=rf"byte {pair.inputs['offset']} of .*cannot be decoded"):
        shards.image(shard, pair.inputs["offset"], pair.inputs["size"])


def test_pairs_at_an_address_are_those_of_the_shards(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    shard = write(there / "cc3m-000.tar", samples(3))
    write_index(here, "cc3m", [shard])
    with served(there) as server:
        (here / "shards.url").write_text(f"{server.address}\n")
        found = sources.read_pairs(here)
        assert [pair.inputs["text"] for pair in found] == ["picture 0", "picture 1", "picture 2"]
        place = found[1].inputs
        image = shards.image(Path(place["shard"]), place["offset"], place["size"])
    assert np.asarray(image)[0, 0].tolist() == [1, 0, 254]
    assert [pair.id for pair in found] == [pair.id for pair in shards.pairs(shard)]
