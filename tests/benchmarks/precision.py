"""Predictions that half precision changes: ours and torchscale's, of the same fine-tuned weights.

A nano model of each task is fine-tuned on the toy data. Then the evaluation split is predicted in float32 and in half
precision, by us and by torchscale 0.3 with our weights in the official form: heads in half precision too, captions by a
plain decoder. Counted are captions, answers, statements and classes that differ from the same implementation's in
float32, for retrieval the texts whose image has another rank, for segmentation pixels, and for detection those of the
ten best boxes of an image that have no counterpart of their class at an IoU of 0.9 (torchscale has no dense models).
The exit status is 1 when torchscale's float32 predictions are not ours (then the weights were not the same), or ours
change more in a precision than torchscale's.

PyTorch's CPU rounds where a GPU does not (LayerNorm of a tensor in half precision returns half precision), so shares on
a GPU are a little smaller, for both.

    python -m tests.benchmarks.precision

Last figures:
    Toy data and recipes as they are; percentage of predictions that are others than the same implementation's in fp32:

                                          ours          torchscale
                          predictions   bf16   fp16    bf16   fp16
    coco_captioning               100     14      2      32      6
    vqav2                         450   0.44      0    1.33   0.22
    flickr30k_retrieval         1,000    6.5    1.1    17.2    2.6
    imagenet                      500      0    0.2       1    0.4
    nlvr2                         400      0      0       0      0
    ade20k (pixels)               150  0.124  0.016       -      -
    coco_detection (boxes)        150   1.26      0       -      -

    bf16 has 3 bits less than fp16 and cannot come near it, which is why prediction is in fp16 on a GPU and in fp32 on a
    CPU by default. NLVR2 says nothing here: a nano without pretraining stays at chance, and gives all one answer.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from backbones.linear import packed
from harness.device import autocast
from harness.experiment import Experiment, plan
from harness.loading import eval_loader
from harness.training import fine_tune
from tasks import toy
from tasks.adapter import Sample
from tasks.captioning.beam_search import BeamSearch
from tasks.segmentation.label_maps import read_map
from tests.benchmarks import peers, plain_decoder
from tests.benchmarks.report import Report, arguments

PRECISIONS = ("bf16", "fp16")
BEST = 10  # detections of an image that are compared
SAME_BOX = 0.9  # IoU of two boxes that count as one
MAX_CLASSES = 255
CPU = torch.device("cpu")
Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Task:
    """Comparison of a task's predictions."""

    name: str
    data: str  # the toy folder
    of_record: Callable[[dict], object]  # our record -> what counts
    official: Callable[[BaseModel, nn.Module, Batch], list] | None  # the same by torchscale, from our model's heads
    changed: Callable[[Sequence, Sequence], float] | None = None  # percentage; by default of predictions that differ
    ranked: bool = False  # features: what counts are the ranks that follow from them


def _encoded(beit3: nn.Module, image: Tensor | None, text: Tensor | None, padding: Tensor | None) -> tuple:
    """torchscale's tokens of a batch, and where the text's begin."""
    if text is not None and padding is None:
        padding = torch.zeros_like(text)
    out = beit3(textual_tokens=text, visual_tokens=image, text_padding_position=padding)
    return out["encoder_out"], out["multiway_split_position"]


def _captions(model: BaseModel, beit3: nn.Module, batch: Batch) -> list[str]:
    search: BeamSearch = model._search
    head = _Float(model.mlm_head)
    found = plain_decoder.decode(beit3, head, batch["image"], search, mask=model.mask)
    return [model._detokenize(words) for words in found]


class _Float(nn.Module):
    """A head whose results are widened after they were rounded, as log_softmax does on a GPU under autocast."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).float()


def _answers(model: BaseModel, beit3: nn.Module, batch: Batch) -> list[str]:
    tokens, _ = _encoded(beit3, batch["image"], batch["text"], batch.get("text_padding"))
    return [model.answers[label] for label in model.head(model.pooler(tokens[:, 0])).argmax(-1).tolist()]


def _statements(model: BaseModel, beit3: nn.Module, batch: Batch) -> list[int]:
    sides = [_encoded(beit3, batch[name], batch["text"], batch.get("text_padding")) for name in ("image_a", "image_b")]
    features = torch.cat([tokens[:, place] for tokens, first in sides for place in (0, first)], -1)
    return model.head(features).argmax(-1).tolist()


def _classes(model: BaseModel, beit3: nn.Module, batch: Batch) -> list[int]:
    tokens, _ = _encoded(beit3, batch["image"], None, None)
    return model.head(model.fc_norm(tokens[:, 1:].mean(1))).argmax(-1).tolist()


def _features(model: BaseModel, beit3: nn.Module, batch: Batch) -> list[np.ndarray]:
    found = []
    if "image" in batch:
        found.append(model.vision_head(_encoded(beit3, batch["image"], None, None)[0][:, 0]))
    if "text" in batch:
        tokens, _ = _encoded(beit3, None, batch["text"], batch.get("text_padding"))
        found.append(model.language_head(tokens[:, 0]))
    return [feature for features in found for feature in F.normalize(features, dim=-1).float().numpy()]


def _classes_of_pixels(record: dict) -> np.ndarray:
    return read_map(bytes(record["png"]), classes=MAX_CLASSES, what="A predicted map")


def _pixels_changed(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """Percentage of all pixels that have another class."""
    differing = sum(int((a != b).sum()) for a, b in zip(one, other, strict=True))
    return 100 * differing / sum(classes.size for classes in one)


def _detections(record: dict) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [n, 4] as x, y, width, height and classes [n] of an image's best detections."""
    best = np.argsort(-record["scores"], kind="stable")[:BEST]
    return record["boxes"][best], record["labels"][best]


def _detections_changed(one: Sequence[tuple], other: Sequence[tuple]) -> float:
    """Percentage of the detections of both that have no counterpart: same class, IoU of at least `SAME_BOX`."""
    lost = sum(_unmatched(a, b) + _unmatched(b, a) for a, b in zip(one, other, strict=True))
    return 100 * lost / max(sum(len(boxes) for boxes, _ in (*one, *other)), 1)


def _unmatched(detections: tuple, others: tuple) -> int:
    (boxes, classes), (other_boxes, other_classes) = detections, others
    if not len(boxes) or not len(other_boxes):
        return len(boxes)
    overlaps = coco_mask.iou(boxes.astype(float), other_boxes.astype(float), [False] * len(other_boxes))  # [n, m]
    same = (classes[:, None] == other_classes) & (overlaps >= SAME_BOX)
    return int((~same.any(1)).sum())


TASKS = (
    Task("coco_captioning", "coco", lambda record: record["caption"], _captions),
    Task("vqav2", "coco", lambda record: record["answer"], _answers),
    Task("nlvr2", "nlvr2", lambda record: record["label"], _statements),
    Task("imagenet", "imagenet", lambda record: record["top"][0], _classes),
    Task("flickr30k_retrieval", "flickr30k", lambda record: record["feature"], _features, ranked=True),
    Task("ade20k", "ade20k", _classes_of_pixels, None, _pixels_changed),
    Task("coco_detection", "coco", _detections, None, _detections_changed),
)


def trained(task: Task, data: Path, folder: Path, *, changes: Sequence[str]) -> tuple[Experiment, BaseModel]:
    """The task's nano model, fine-tuned on the toy data."""
    experiment = plan(task.name, backbone="multiway_nano", data=data, out=folder, changes=[*changes, "precision=fp32"])
    samples = experiment.samples(experiment.adapter.train_split)
    model = experiment.build_model()
    items = experiment.adapter.train_set(samples, experiment.context)
    fine_tune(model, items, experiment.recipe, folder=folder / task.name, seed=0, log=())
    return experiment, model.eval()


def compare(task: Task, experiment: Experiment, model: BaseModel) -> dict:
    """Share of predictions that a precision changes by implementation; torchscale's only where it is installed."""
    samples = experiment.samples(experiment.splits[0])
    batches = _batches(experiment, samples)
    row: dict = {"task": task.name, "predictions": None}
    decide = partial(_ranks, samples) if task.ranked else list
    ours = _decided(batches, partial(_ours, task, model), decide)
    row["predictions"] = len(ours["fp32"])
    changed = task.changed or _share
    row |= {f"ours {precision} %": changed(ours["fp32"], ours[precision]) for precision in PRECISIONS}
    if task.official and peers.has_torchscale():
        beit3 = peers.torchscale_beit3(model.beit3.config).eval()
        beit3.load_state_dict(model.beit3.state_dict())
        theirs = _decided(batches, partial(task.official, model, beit3), decide)
        row |= {f"torchscale {precision} %": _share(theirs["fp32"], theirs[precision]) for precision in PRECISIONS}
        row["fp32, ours to torchscale's %"] = _share(ours["fp32"], theirs["fp32"])
    return row


def _batches(experiment: Experiment, samples: Sequence[Sample]) -> list[Batch]:
    """All of the split, in memory."""
    size = experiment.recipe.micro_batch
    slices = [range(first, min(first + size, len(samples))) for first in range(0, len(samples), size)]
    items = experiment.adapter.eval_set(samples, experiment.context)
    return [
        {name: value for name, value in batch.items() if name not in ("label", "target")}
        for batch in eval_loader(items, slices, workers=0)
    ]


def _ours(task: Task, model: BaseModel, batch: Batch) -> list:
    return [task.of_record(record) for record in model(**model.data_preprocessor(batch), mode="predict")]


def _decided(
    batches: Sequence[Batch], predict: Callable[[Batch], list], decide: Callable[[list], list]
) -> dict[str, list]:
    """The predictions in each precision."""
    found = {}
    for precision in ("fp32", *PRECISIONS):
        with torch.inference_mode(), autocast(precision, CPU):
            predictions = [one for batch in batches for one in predict(batch)]
        found[precision] = decide(predictions)
    return found


def _ranks(samples: Sequence[Sample], features: Sequence[np.ndarray]) -> list[int]:
    """Of each text: how many images are nearer than its own."""
    images = {sample.id: index for index, sample in enumerate(samples) if "image" in sample.inputs}
    texts = [index for index, sample in enumerate(samples) if "text" in sample.inputs]
    gallery = np.stack([features[index] for index in images.values()])
    place = {name: row for row, name in enumerate(images)}
    found = []
    for index in texts:
        scores = gallery @ features[index]
        found.append(int((scores > scores[place[samples[index].annotation["image"]]]).sum()))
    return found


def _share(one: Sequence, other: Sequence) -> float:
    """Percentage of predictions that differ."""
    return 100 * sum(a != b for a, b in zip(one, other, strict=True)) / len(one)


def missed(rows: Sequence[Mapping]) -> list[str]:
    """Cases where torchscale's float32 predictions are not ours, or ours change more than its in the same precision."""
    found = []
    for row in rows:
        if row.get("fp32, ours to torchscale's %"):
            found.append(f"{row['task']}: predictions in float32 are not torchscale's")
        for precision in PRECISIONS:
            ours, theirs = row[f"ours {precision} %"], row.get(f"torchscale {precision} %")
            if theirs is not None and ours > theirs:
                found.append(f"{row['task']}, {precision}: {ours:.2f} % change, of torchscale's {theirs:.2f} %")
    return found


def measure(*, scale: float, tasks: Sequence[Task] = TASKS, changes: Sequence[str] = (), folder: Path) -> Report:
    """Fine-tune and compare every task."""
    rows = []
    data = toy.write(folder / "toy", tasks=sorted({task.data for task in tasks}), scale=scale)
    for task in tasks:
        experiment, model = trained(task, data[task.data], folder, changes=changes)
        with packed(model):
            rows.append(compare(task, experiment, model))
        print(rows[-1], file=sys.stderr, flush=True)
    notes = [] if peers.has_torchscale() else [f"Skipped: {peers.TORCHSCALE_ABSENT}"]
    return Report(
        title="Predictions that differ from float32's, multiway_nano on toy data",
        rows=rows, notes=notes, missed=missed(rows),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the toy data (%(default)s)")
    parser.add_argument("--tasks", nargs="+", choices=[task.name for task in TASKS], help="all by default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="recipe fields of all tasks")
    args = parser.parse_args(argv)
    chosen = [task for task in TASKS if not args.tasks or task.name in args.tasks]
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        report = measure(scale=args.scale, tasks=chosen, changes=args.set, folder=Path(folder))
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
