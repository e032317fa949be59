from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import harness
import tasks
from backbones import InputError, UsageError
from harness.provenance import data_sha256
from tests.conftest import FAST
from tests.tasks.captioned import write_coco

pytestmark = pytest.mark.usefixtures("kept_meteor")
ADAPTER = tasks.get("nocaps")
DOMAINS = ("in-domain", "near-domain", "out-domain")
TEXTS = (
    "a cat on a mat",
    "two dogs run in the snow",
    "an old red bus",
    "a man with a hat",
    "some fruit in a bowl",
    "sky",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six validation images, two of each domain, and two test images; COCO's captions lie beside the folder."""
    write_coco(tmp_path / "coco")
    folder = tmp_path / "nocaps"
    images, annotations = [], []
    for number, text in enumerate(TEXTS):
        name = f"{number:04d}.jpg"
        images.append({"id": number, "file_name": name, "domain": DOMAINS[number % 3], "open_images_id": f"x{number}"})
        annotations += [
            {"image_id": number, "id": 10 * number + n, "caption": f"{text}{tail}"}
            for n, tail in enumerate(("", " there"))
        ]
        save(folder / "val" / name, number)
    val = {"images": images, "annotations": annotations}
    (folder / "nocaps_val_4500_captions.json").write_text(json.dumps(val))
    test = {"images": [{"id": n, "file_name": f"{n:04d}.jpg", "open_images_id": f"y{n}"} for n in range(2)]}
    (folder / "nocaps_test_image_info.json").write_text(json.dumps(test))
    for number in range(2):
        save(folder / "test" / f"{number:04d}.jpg", number)
    return folder


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(path)


def test_samples_have_their_domain_and_train_on_coco(root: Path) -> None:
    val = ADAPTER.samples(root, "val")
    assert [sample.id for sample in val] == list("012345")
    assert val[1].annotation == {"captions": [TEXTS[1], f"{TEXTS[1]} there"], "domain": "near-domain"}
    train = ADAPTER.samples(root, "train")
    assert len(train) == 28
    assert (root / train[0].inputs["image"]).is_file()
    assert ADAPTER.samples(root, "test")[1].annotation is None


def test_folders_may_be_links_to_different_disks(root: Path, tmp_path: Path) -> None:
    """Behind the link there is no coco beside nocaps."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("coco", "nocaps"):
        (tmp_path / f"disk of {name}").mkdir()
        (tmp_path / name).rename(tmp_path / f"disk of {name}" / "here")
        (data / name).symlink_to(tmp_path / f"disk of {name}" / "here")
    folder = ADAPTER.data_folder(data)
    train = ADAPTER.samples(folder, "train")
    assert all((folder / image).is_file() for sample in train for image in ADAPTER.image_files(sample))
    findings = ADAPTER.check(folder, decode=True, progress=lambda items, title: items)
    assert all(finding.ok for finding in findings), findings


def test_the_data_folder_may_be_where_the_command_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    for data in (".", ".."):
        folder = ADAPTER.data_folder(Path(data))
        assert folder == root
        assert len(ADAPTER.samples(folder, "train")) == 28


def test_the_hash_of_the_data_does_not_depend_on_where_coco_lies(root: Path, tmp_path: Path) -> None:
    beside = data_sha256(ADAPTER, ADAPTER.samples(root, "train"), root)
    for entry in (tmp_path / "coco").iterdir():
        entry.rename(root / entry.name)
    assert data_sha256(ADAPTER, ADAPTER.samples(root, "train"), root) == beside


@pytest.mark.java
def test_a_domain_scores_as_it_does_alone(root: Path, tmp_path: Path) -> None:
    predictions = tmp_path / "results.json"
    guesses = [{"image_id": n, "caption": text if n % 2 else "a cat on a bus"} for n, text in enumerate(TEXTS)]
    predictions.write_text(json.dumps(guesses))
    rows = {row.metric: row for row in harness.score("nocaps", predictions, data=root)}
    assert {f"CIDEr_{domain}" for domain in DOMAINS} < set(rows)
    content = json.loads((root / "nocaps_val_4500_captions.json").read_text())
    for domain in DOMAINS:
        row = rows[f"CIDEr_{domain}"]
        kept = [image for image in content["images"] if image["domain"] == domain]
        (root / "nocaps_val_4500_captions.json").write_text(json.dumps(content | {"images": kept}))
        ids = {image["id"] for image in kept}
        predictions.write_text(json.dumps([guess for guess in guesses if guess["image_id"] in ids]))
        alone = {row.metric: row for row in harness.score("nocaps", predictions, data=root)}
        assert row.value == pytest.approx(alone["CIDEr"].value, abs=1e-9)
        assert row.n == 2
    assert len({round(rows[f"CIDEr_{domain}"].value, 6) for domain in DOMAINS} | {round(rows["CIDEr"].value, 6)}) == 4


@pytest.mark.java
def test_fine_tunes_predicts_scores_and_submits(root: Path, spm: Path, tmp_path: Path) -> None:
    changes = [*FAST, "caption_length=6"]
    options = {"backbone": "multiway_nano", "data": tmp_path, "out": tmp_path / "runs", "tokenizer": spm}
    rows = harness.run("nocaps", **options, changes=changes)
    assert {row.metric for row in rows} == {metric.name for metric in ADAPTER.metrics}
    final = tmp_path / "runs" / "nocaps" / "multiway_nano-seed0" / "checkpoints" / "final.safetensors"
    path = harness.predict("nocaps", **options, weights=final, split="test", changes=changes)
    with pytest.raises(UsageError, match="EvalAI challenge 355"):
        harness.score("nocaps", path, data=root, split="test")
    (file,) = harness.submit("nocaps", path, data=root, split="test", name="ours")
    assert file.name == "nocaps_test_ours_results.json"
    assert [row["image_id"] for row in json.loads(file.read_text())] == [0, 1]


def test_the_official_index_files_stand_in(root: Path) -> None:
    wanted = ADAPTER.samples(root, "val")
    rows = [{"image_path": s.inputs["image"], "text_segment": None, "image_id": int(s.id)} for s in wanted]
    (root / "nocaps.val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "nocaps_val_4500_captions.json").rename(root / "nocaps_val_gt.json")
    found = ADAPTER.samples(root, "val")
    assert [(s.id, s.inputs, s.annotation["captions"]) for s in found] == [
        (s.id, s.inputs, s.annotation["captions"]) for s in wanted
    ]


def test_what_is_absent_is_told(root: Path) -> None:
    (root.parent / "coco" / "dataset_coco.json").unlink()
    with pytest.raises(InputError, match="Put COCO beside the NoCaps folder"):
        ADAPTER.samples(root, "train")
    (root / "nocaps_val_4500_captions.json").unlink()
    with pytest.raises(InputError, match=r"nocaps_val_4500_captions\.json nor nocaps\.val\.jsonl"):
        ADAPTER.samples(root, "val")
    findings = ADAPTER.check(root, decode=False, progress=lambda items, title: items)
    assert [finding.ok for finding in findings] == [False, False, True]  # train and val are wrong, test is there


def test_an_image_without_captions_is_told(root: Path) -> None:
    file = root / "nocaps_val_4500_captions.json"
    content = json.loads(file.read_text())
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 3]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="image 3 has no caption"):
        ADAPTER.samples(root, "val")
