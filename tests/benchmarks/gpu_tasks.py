"""Cost of the vision-language tasks and ImageNet on a GPU by their recipes, and agreement with a CPU's results.

- A training step of each recipe `base` and `large`, of `giant` with --sizes giant: its micro-batch at its image size,
  made-up images and texts that lie on the GPU, fused AdamW. Peak memory is that of training with the recipe on one
  GPU, images per second its limit.
- Training with loading: `harness run imagenet` on files, in one process and in two; seconds of a step as the engine
  logs them, without its first log.
- Against the CPU, in fp32 and at 64 px: the losses of three optimizer steps, and predictions.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import backbones
import tasks
from tasks.recipe import Recipe
from tests.benchmarks import gpu_dense, peers
from tests.benchmarks.gpu_measuring import Comparison, Machine, Measurement, Work, training_step

if TYPE_CHECKING:
    from mmengine.model import BaseModel

TEXT, ANSWERS, CLASSES = 24, 3129, 1000  # tokens of a text, the two special ones counted
STEPS = 3  # that are compared
TOLERANCE = 1e-3
CPU = torch.device("cpu")
SIZES = {**peers.SIZES, "giant": "beit3_giant_patch14_224"}  # no peer has a giant
IMAGES_OF = {"nlvr2": 2}  # of a sample, where it is more than one


def _captioner(backbone: torch.nn.Module) -> BaseModel:
    from tasks.captioning.beam_search import BeamSearch
    from tasks.captioning.model import Captioner, CaptioningLoss

    mask = backbone.config.vocab_size - 9
    search = BeamSearch(max_length=12)
    return Captioner(backbone, mask=mask, detokenize=str, loss=CaptioningLoss(), search=search)


def _answerer(backbone: torch.nn.Module) -> BaseModel:
    from tasks.vqa.model import VisualQuestionAnswering

    return VisualQuestionAnswering(backbone, answers=[str(answer) for answer in range(ANSWERS)])


def _reasoner(backbone: torch.nn.Module) -> BaseModel:
    from tasks.reasoning.model import Reasoner

    return Reasoner(backbone)


def _dual_encoder(backbone: torch.nn.Module) -> BaseModel:
    from tasks.retrieval.model import DualEncoder

    return DualEncoder(backbone)


def _classifier(backbone: torch.nn.Module) -> BaseModel:
    from tasks.classification.model import ImageClassifier

    return ImageClassifier(backbone, classes=CLASSES)


MODELS: dict[str, Callable[[torch.nn.Module], BaseModel]] = {
    "coco_captioning": _captioner,
    "vqav2": _answerer,
    "nlvr2": _reasoner,
    "coco_retrieval": _dual_encoder,
    "imagenet": _classifier,
}


def recipe_of(task: str, size: str) -> Recipe:
    return tasks.get(task).recipes[size]


def built(task: str, size: str, recipe: Recipe, device: torch.device) -> BaseModel:
    """The task's model with random weights, the same on every device."""
    name = SIZES[size]
    torch.manual_seed(0)
    backbone = backbones.build(
        name,
        image_size=recipe.image_size,
        drop_path=recipe.drop_path,
        checkpoint_activations=recipe.checkpoint_activations,
        **tasks.get(task).backbone_options(recipe, layers=backbones.config(name).layers),
    )
    return MODELS[task](backbone).to(device)


def made(task: str, size: str, recipe: Recipe, batch: int, device: torch.device) -> dict[str, Tensor]:
    """A batch for training: noise for images, random words of different lengths, labels."""
    generator = torch.Generator().manual_seed(1)
    vocabulary = backbones.config(SIZES[size]).vocab_size

    def images() -> Tensor:
        return torch.randn(batch, 3, recipe.image_size, recipe.image_size, generator=generator)

    if task == "imagenet":
        return _on(device, {"image": images(), "label": torch.arange(batch) % CLASSES})
    text = torch.randint(3, vocabulary - 9, (batch, TEXT), generator=generator)
    padding = torch.arange(TEXT) >= TEXT - torch.arange(batch)[:, None] % 8
    text[:, 0] = 0
    texts = {"text": text.masked_fill(padding, 1), "text_padding": padding}
    if task == "nlvr2":
        return _on(device, {"image_a": images(), "image_b": images(), **texts, "label": torch.arange(batch) % 2})
    more = {}
    if task == "coco_captioning":
        masked = (torch.rand(batch, TEXT, generator=generator) < 0.6) & ~padding
        masked[:, 1] = True
        more = {"target": texts["text"], "masked": masked, "text": texts["text"].masked_fill(masked, vocabulary - 9)}
    if task == "vqav2":
        more = {"target": (torch.rand(batch, ANSWERS, generator=generator) < 0.001).float()}
    return _on(device, {"image": images(), **texts, **more})


def _on(device: torch.device, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in batch.items()}


def _tiny(recipe: Recipe) -> Recipe:
    return replace(recipe, image_size=64, drop_path=0.0)


def step(machine: Machine, size: str, batch: int, *, task: str) -> Work:
    """A training step by the recipe."""
    recipe = _tiny(recipe_of(task, size)) if machine.tiny else recipe_of(task, size)
    model = built(task, size, recipe, machine.device).train()
    inputs = made(task, size, recipe, batch, machine.device)

    def loss() -> Tensor:
        return model(**inputs, mode="loss")["loss"]

    return Work(step=training_step(machine, model, loss), flops=None, images=batch * IMAGES_OF.get(task, 1))


# Against the CPU


def losses(task: str, size: str, device: torch.device) -> list[float]:
    """Losses of three optimizer steps, in fp32."""
    recipe = _tiny(recipe_of(task, size))
    model = built(task, size, recipe, device).train()
    inputs = made(task, size, recipe, 8, device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    found = []
    for _ in range(STEPS):
        loss = model(**inputs, mode="loss")["loss"]
        found.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return found


def losses_apart(machine: Machine, size: str, *, task: str) -> float:
    """The largest difference of a loss from the CPU's, as a share of it."""
    pairs = zip(losses(task, size, machine.device), losses(task, size, CPU), strict=True)
    return max(abs(one - other) / abs(other) for one, other in pairs)


@torch.inference_mode()
def predicted(task: str, size: str, device: torch.device) -> list[Tensor]:
    """Captions as token ids; features; logits of the other tasks: as the predictions are made of them, in fp32."""
    recipe = _tiny(recipe_of(task, size))
    model = built(task, size, recipe, device).eval()
    inputs = made(task, size, recipe, 8, device)
    if task == "coco_captioning":
        return [model.decode(inputs["image"]).cpu()]
    given = {name: value for name, value in inputs.items() if name not in ("label", "target")}
    found = model(**given)
    return [part.cpu() for part in (found if isinstance(found, tuple) else (found,))]


def predictions_apart(machine: Machine, size: str, *, task: str) -> float:
    """The largest difference from the CPU's; of captions, the share that is another."""
    pairs = list(zip(predicted(task, size, machine.device), predicted(task, size, CPU), strict=True))
    if task == "coco_captioning":
        return float((pairs[0][0] != pairs[0][1]).any(1).float().mean())
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


# With loading

LOADING = {"base": 128, "nano": 8}
LOGGED = 20  # steps from one log of the engine to the next


def with_loading(machine: Machine, size: str, batch: int, *, processes: int) -> Work:
    """`harness run imagenet` on drawn images: a step has `batch` images per process."""
    from tasks import toy

    if not machine.tiny and torch.cuda.device_count() < processes:
        raise RuntimeError(f"{processes} processes need as many GPUs, and there is {torch.cuda.device_count()}")
    logs = 1 if machine.tiny else 3
    settings = {
        "steps": logs * LOGGED, "warmup_steps": 0, "epochs": 0, "warmup_epochs": 0,
        "batch_size": batch * processes, "micro_batch": batch,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        data = toy.write(Path(folder) / "toy", tasks=["imagenet"], scale=0.02 if machine.tiny else 1.0)["imagenet"]
        launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
        command = [sys.executable, "-m", *(launcher if processes > 1 else []), "harness", "run", "imagenet"]
        command += ["--backbone", peers.SIZES[size], "--data", str(data), "--out", folder, "--limit", "256"]
        command += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else f"exit {done.returncode}")
        (file,) = Path(folder).rglob("scalars.jsonl")
        times = [json.loads(line)["time"] for line in file.read_text().splitlines()]
    # The first log has the start of the loader's processes in it.
    seconds = statistics.mean(times[1:] or times)
    return Work(step=lambda: None, flops=None, images=batch * processes, seconds=seconds)


def _batches(task: str) -> dict[str, int]:
    return {size: 2 if size == "nano" else recipe_of(task, size).micro_batch for size in SIZES}


MEASUREMENTS: Sequence[Measurement] = (
    *[
        Measurement(
            work=f"{task} step", model="ours", variant="eager", prepare=partial(step, task=task),
            batches=_batches(task), burst=1, lacks=partial(gpu_dense.lacks, "timm"),
        )
        for task in MODELS
    ],
    *[
        Measurement(
            work="imagenet with loading", model="ours", variant=f"{processes} process(es)",
            prepare=partial(with_loading, processes=processes), batches=LOADING, burst=1,
            lacks=partial(gpu_dense.lacks, "timm"),
        )
        for processes in (1, 2)
    ],
)  # fmt: skip
COMPARISONS: Sequence[Comparison] = tuple(
    Comparison(
        peer="the CPU", what=f"{task}'s {what}", sizes=("base", "nano"), difference=partial(apart, task=task),
        tolerance=TOLERANCE, lacks=partial(gpu_dense.lacks, "timm"),
    )
    for task in MODELS
    for what, apart in (("losses in three steps", losses_apart), ("predictions", predictions_apart))
)  # fmt: skip
