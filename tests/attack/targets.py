"""Small data sets, predictions, weights and results to damage, and what is computed from each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import harness
import tasks
from backbones import weights
from backbones.errors import AbsentError
from backbones.tokenizer import Tokenizer
from harness import checkpoint, logs, pretraining_log, runs, sharded_checkpoint, stored_origin, validation, workdir
from harness.checkpoint import Progress
from harness.predictions import PredictionWriter, merge
from harness.provenance import data_sha256
from leaderboards import exports, published, replicates, results, rows, tables
from leaderboards.report import Sections, page
from tasks.common.checking import read_labels, read_samples
from tasks.common.images import open_image
from tasks.common.shards import write_index
from tasks.pretraining import shards, sources
from tasks.segmentation.label_maps import encoded
from tests.attack.attempts import Value
from tests.backbones.test_multiway import small
from tests.conftest import draw_folders
from tests.harness.test_checkpoint import begun, step
from tests.support import instances, label_maps, questions
from tests.support.rows import of_run
from tests.support.shards import of_class_folders
from tests.support.spm import train
from tests.tasks import captioned
from tests.tasks.pretraining import test_shards
from tests.tasks.reasoning import files as nlvr2


@dataclass(frozen=True)
class Target:
    """make: writes the files into a folder; damaged: patterns of those that are damaged; use: what is computed."""

    name: str
    make: Callable[[Path], object]
    damaged: str
    use: Callable[[Path], Value]


def _digest(*values: object) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "backslashreplace")).hexdigest()


def _records(task: str, root: Path, split: str | None = None) -> dict[str, dict[str, Any]]:
    """Predictions of a task's small data set."""
    adapter = tasks.get(task)
    samples = adapter.samples(root, split or adapter.eval_split)
    if task == "imagenet":
        return {sample.id: {"top": [0, 1, 2], "probability": [0.5, 0.3, 0.2]} for sample in samples}
    if task == "nlvr2":
        return {sample.id: {"label": 1} for sample in samples}
    if task == "vqav2":
        return {sample.id: {"answer": "yes", "score": 0.5} for sample in samples}
    if task == "coco_detection":
        return instances.perfect(samples)
    if task == "ade20k":
        maps = {sample.id: np.asarray(Image.open(sample.inputs["map"])) for sample in samples}
        return {name: {"png": np.frombuffer(encoded(np.maximum(ids, 1)), np.uint8)} for name, ids in maps.items()}
    rng = np.random.default_rng(0)
    return {sample.id: {"feature": rng.standard_normal(6).astype(np.float32)} for sample in samples}


_SPLITS = {"vqav2": "val", "nlvr2": "dev"}


def _annotated(task: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        data = folder / "data"
        if task == "imagenet":
            draw_folders(data, train=3, val=6)
        elif task == "nlvr2":
            for split in ("train", "dev"):
                nlvr2.statements(data, split, sets=2)
        elif task == "vqav2":
            questions.colour_questions(data)
            for images in ("train2014", "val2014", "test2015"):
                shutil.rmtree(data / images, ignore_errors=True)
        elif task == "coco_detection":
            instances.folder(data)
        elif task == "ade20k":
            label_maps.draw_folder(data)
        elif task == "flickr30k_retrieval":
            captioned.write_flickr30k(data, images=8)
        else:
            captioned.write_coco(data, images=12)

    return make


def _predicted(task: str) -> Callable[[Path], None]:
    """A data set, and predictions as `harness predict` leaves them."""

    def make(folder: Path) -> None:
        _annotated(task)(folder)
        records = _records(task, folder / "data", _SPLITS.get(task))
        writer = PredictionWriter(folder / "val", rank=0)
        writer.append({"id": name, **record} for name, record in records.items())
        writer.close()
        merge(folder / "val", folder / "val.jsonl", list(records))
        stored_origin.write(folder / "val.jsonl", {"backbone": "nano", "run_id": "r", "started": "s", "seed": 3})

    return make


def _scored(task: str, file: str = "val.jsonl") -> Callable[[Path], Value]:
    def use(folder: Path) -> Value:
        (path,) = folder.glob(file)
        found = harness.score(task, path, data=folder / "data", split=_SPLITS.get(task), results=folder / "r.csv")
        again = rows.read(folder / "r.csv")
        assert [(row.metric, row.value) for row in again] == [(row.metric, row.value) for row in found]
        numbers = [(row.metric, row.value, row.low, row.high, row.n) for row in found]
        return _digest(numbers), _digest(found[0].data_sha256, found[0].predictions_sha256)

    return use


def _official(task: str, name: str, write: Callable[[Path, Mapping[str, Any]], object]) -> Callable[[Path], None]:
    """A data set, and predictions in the benchmark's own form."""

    def make(folder: Path) -> None:
        _annotated(task)(folder)
        write(folder / name, _records(task, folder / "data", _SPLITS.get(task)))

    return make


def _csv(path: Path, records: Mapping[str, Any]) -> None:
    path.write_text("".join(f"{name},True\n" for name in records))


def _answers(path: Path, records: Mapping[str, Any]) -> None:
    path.write_text(json.dumps([{"question_id": int(name), "answer": "yes"} for name in records]))


def _detections(path: Path, records: Mapping[str, Any]) -> None:
    entries = [
        {
            "image_id": int(name),
            "category_id": int(label),
            "score": float(score),
            "bbox": box.tolist(),
            "segmentation": code,
        }
        for name, record in records.items()
        for label, score, box, code in zip(
            record["labels"], record["scores"], record["boxes"], record["masks"], strict=True
        )
    ]
    path.write_text(json.dumps(entries))


def _maps(path: Path, records: Mapping[str, Any]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, record in records.items():
            archive.writestr(f"{name}.png", record["png"].tobytes())


def _features(path: Path, records: Mapping[str, Any]) -> None:
    arrays = {}
    for kind in ("image", "text"):
        own = {name.partition(":")[2]: r["feature"] for name, r in records.items() if name.startswith(f"{kind}:")}
        arrays |= {f"{kind}_ids": np.array(list(own)), f"{kind}_features": np.array(list(own.values()))}
    np.savez(path, **arrays)


def _captions(path: Path, records: Mapping[str, Any]) -> None:
    path.write_text(json.dumps([{"image_id": int(name), "caption": "a picture"} for name in records]))


def _read_captions(folder: Path) -> Value:
    """The records alone: scores need Java, which takes seconds."""
    found = tasks.get("coco_captioning").read_official(folder / "found.json")
    text = _digest(found)
    return text, text


def _samples(task: str) -> Callable[[Path], Value]:
    """Every split's samples and labels; their hash says which they are."""

    def use(folder: Path) -> Value:
        adapter = tasks.get(task)
        digests = []
        for finding in adapter.check(folder / "data", decode=True, progress=lambda things, title: things):
            digests.append(finding.ok)
        for split in (name for name, facts in adapter.splits.items() if facts.labels):
            try:
                samples = read_samples(adapter, folder / "data", split)
            except AbsentError:
                continue
            digests.append(data_sha256(adapter, samples, folder / "data"))
        digests.append(read_labels(adapter, folder / "data"))
        return _digest(digests), _digest(digests)

    return use


def _weights(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        state = {f"beit3.{key}": tensor for key, tensor in small(seed=1).state_dict().items()}
        if name.endswith(".pth"):
            torch.save({"model": state}, folder / name)
        else:
            weights.save(state, folder / name, metadata={"trained": json.dumps({"recipe": "r"})})

    return make


def _loaded(folder: Path) -> Value:
    (path,) = folder.glob("w.*")
    model = small(seed=2)
    if path.suffix == ".safetensors":
        weights.metadata(path)
    weights.load(model, path)
    found = _digest([tensor.sum().item() for tensor in model.state_dict().values()])
    return found, weights.sha256(path)  # rows have the file's hash


def _checkpoint(folder: Path) -> None:
    state = begun()
    for number in range(2):
        step(state, number)
    checkpoint.save(folder / "last.pth", state, Progress(step=2, run="mine"))


def _sharded_checkpoint(folder: Path) -> None:
    state = begun()
    for number in range(2):
        step(state, number)
    place = folder / "last-2"
    sharded_checkpoint.save(place, state, Progress(step=2, run="mine"), before=place)


def _resumed(folder: Path) -> Value:
    state, path = begun(), checkpoint.newest(folder)
    progress = checkpoint.read_progress(path, run="mine", steps=9)
    checkpoint.load(path, state)
    return _digest(
        progress, [t.tolist() for t in state.model.state_dict().values()], str(state.optimizer.state_dict())
    ), ""


def _results(folder: Path) -> None:
    rows.write(folder / "results.csv", [of_run(name, note="a, b") for name in ("one", "two", "three")])
    (folder / "result.json").write_text(json.dumps([dataclasses.asdict(of_run("four"))]))


def _gathered(folder: Path) -> Value:
    """Rows of both files, added to, exported; a damaged row is told, and the others count."""
    found = results.gather([folder])
    about = exports.About(organization="x", relationship="other", retrieved=0)
    for form in exports.FORMATS:
        exports.export(form, found.frame, about)
    page(Sections(title="x", boards=(), frame=found.frame))
    told = "; ".join([*found.problems, *found.notices])
    rows.require_readable(folder / "results.csv")
    rows.write(folder / "results.csv", [of_run("five")])
    values = [(row.run_id, row.value) for row in rows.read(folder / "results.csv")]
    return _digest(values), _digest((folder / "results.csv").read_bytes(), told)


def _run_folder(folder: Path) -> None:
    with workdir.opened(folder / "run", {"task": "x", "seed": 1}, {}) as work:
        replicates.write(work.replicates, [_replicates()])
        workdir.write_json(work.result, [dataclasses.asdict(of_run("r"))])
    row = validation.ValidationRow(
        step=3, epoch=1.0, split="val", metric="top1", unit="percent", value=5.0, n=9, kept=False
    )
    (folder / "run" / "validation.csv").write_bytes(validation._written([row, dataclasses.replace(row, step=6)]))
    (folder / "run" / "figures.csv").write_text("step,loss\n1,0.5\n2,0.25\n")
    with logs.opened(folder / "run" / "log", (), step=0) as write:
        for number in range(3):
            write({"loss": 0.5}, number)


def _replicates() -> replicates.Replicates:
    row = of_run("r")
    shared = {
        name: getattr(row, name)
        for name in ("task", "split", "metric", "metric_version", "unit", "value", "data_sha256", "predictions_sha256",
                     "run_id")
    }  # fmt: skip
    return replicates.Replicates(**shared, draws_sha256="d", replicates=np.linspace(80, 90, 20))


def _reopened(folder: Path) -> Value:
    with workdir.opened(folder / "run", {"task": "x", "seed": 1}, {}) as work:
        run = runs.read(work.folder)
        scores = validation._read(work.folder / "validation.csv")
        figures = pretraining_log.read(work.folder / "figures.csv")
        with logs.opened(work.folder / "log", (), step=1):
            pass
    (key, own), *_ = run.metrics.items()
    return _digest(key, own.value, own.replicates.tolist(), len(scores), len(figures)), _digest(
        [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
    )


def _spm(folder: Path) -> None:
    train(folder / "nano.spm", pieces=400, byte_fallback=False)


def _tokenized(folder: Path) -> Value:
    tokenizer = Tokenizer(folder / "nano.spm")
    ids = tokenizer.encode("a red picture of three dogs")
    return _digest(len(tokenizer), ids, tokenizer.decode(ids)), weights.sha256(folder / "nano.spm")


def _shard(folder: Path) -> None:
    test_shards.write(folder / "0.tar", test_shards.samples(4))
    (folder / "k.json").write_text(
        json.dumps({"images": [{"filename": "a.png", "split": "train", "sentences": [{"raw": "a dog"}]}]})
    )


def _sharded(folder: Path) -> None:
    root = of_class_folders(draw_folders(folder / "drawn", train=6, val=3), folder / "data", per_shard=3)
    shutil.rmtree(folder / "drawn")
    write_index(root, "val", sorted(root.glob("val-*.tar")))


def _images_of_shards(folder: Path) -> Value:
    root, adapter = folder / "data", tasks.get("imagenet")
    found = [sample for split in ("train", "val") for sample in adapter.samples(root, split)]
    pixels = [np.asarray(open_image(root / sample.inputs)).sum() for sample in found]
    return _digest([(sample.id, sample.annotation) for sample in found], pixels), _digest(
        [path.read_bytes() for path in sorted(root.iterdir())]
    )


def _pairs(folder: Path) -> Value:
    found = sources.read_pairs(folder)
    pixels = [
        np.asarray(shards.image(Path(pair.inputs["shard"]), pair.inputs["offset"], pair.inputs["size"])).sum()
        for pair in found
        if "shard" in pair.inputs
    ]
    own = [(pair.id, pair.inputs["text"]) for pair in found]
    return _digest(own, pixels), _digest([path.read_bytes() for path in sorted(folder.iterdir())])


def _images(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    for kind in ("jpeg", "png", "webp", "bmp", "gif"):
        Image.fromarray(pixels).save(folder / f"image.{kind}")


def _decoded(folder: Path) -> Value:
    values = [np.asarray(open_image(path, upright=True)).sum() for path in sorted(folder.iterdir())]
    return _digest(values), _digest([path.read_bytes() for path in sorted(folder.iterdir())])


def _tables(folder: Path) -> None:
    for source in (tables.FOLDER / "overview.toml", sorted(published.FOLDER.glob("*.csv"))[0]):
        shutil.copy(source, folder / source.name)


def _read_tables(folder: Path) -> Value:
    (table,), (numbers,) = folder.glob("*.toml"), folder.glob("*.csv")
    found = _digest(tables.load(table), published.read(numbers))
    return found, _digest(table.read_bytes(), numbers.read_bytes())


OURS = ("imagenet", "nlvr2", "vqav2", "coco_detection", "ade20k", "flickr30k_retrieval")
TARGETS = (
    *(Target(f"predictions {task}", _predicted(task), "val.*", _scored(task)) for task in OURS),
    *(
        Target(f"{task} {name}", _official(task, name, write), name, _scored(task, name))
        for task, name, write in (
            ("nlvr2", "found.csv", _csv), ("vqav2", "found.json", _answers),
            ("coco_detection", "found.json", _detections), ("ade20k", "found.zip", _maps),
            ("flickr30k_retrieval", "found.npz", _features),
        )
    ),
    Target("coco_captioning found.json", _official("coco_captioning", "found.json", _captions), "found.json",
           _read_captions),
    *(Target(f"data of {task}", _annotated(task), "data/**/*", _samples(task)) for task in (*OURS, "coco_captioning")),
    Target("weights .pth", _weights("w.pth"), "w.pth", _loaded),
    Target("weights .safetensors", _weights("w.safetensors"), "w.safetensors", _loaded),
    Target("checkpoint", _checkpoint, "last.pth", _resumed),
    Target("sharded checkpoint", _sharded_checkpoint, "last-2/*", _resumed),
    Target("results", _results, "result*", _gathered),
    Target("run folder", _run_folder, "run/**/*.*", _reopened),
    Target("tokenizer", _spm, "nano.spm", _tokenized),
    Target("pretraining pairs", _shard, "*", _pairs),
    Target("shards of images", _sharded, "data/*", _images_of_shards),
    Target("images", _images, "image.*", _decoded),
    Target("tables and published numbers", _tables, "*", _read_tables),
)  # fmt: skip
