"""Pretraining: a stage of `tasks.pretraining.recipes` from its data to the weights or the tokenizer that it makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from torch.utils.data import Dataset, default_collate

import backbones
from backbones import weights as weight_files
from backbones.errors import InputError, UsageError
from backbones.files import require_weights
from backbones.tokenizer import Tokenizer
from harness import distributed, pretraining_log, provenance
from harness.node_samples import once_per_node
from harness.peak import step_flops
from harness.pretraining_log import PretrainingLog
from harness.progress import note, track
from harness.provenance import same
from harness.training import fine_tune
from harness.workdir import CHECKPOINTS, FINAL, opened
from tasks.pretraining import clusters, recipes, sources, stages, tokenizer, toy_data
from tasks.pretraining.probe import ContrastiveProbe
from tasks.pretraining.recipe import (
    ClusterRecipe,
    ContrastiveRecipe,
    DistillationRecipe,
    MaskedDataRecipe,
    PretrainingRecipe,
)
from tasks.recipe import changed

TOY = "toy"  # as --data: drawn under --out
TOKENIZER, CLUSTERS = "tokenizer.safetensors", "clusters.safetensors"
OFFICIAL_TOKENIZER = "beit3.spm"
FLOP_SAMPLES = 4
RUN = "run.json"  # in a stage's folder, see `harness.workdir`


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """A resolved stage.

    weights: that it begins with. teacher: backbone and weights of who teaches a tokenizer. target: the image tokenizer
    or clusters whose codes are predicted.
    """

    recipe: PretrainingRecipe
    backbone: str
    sources: sources.Sources
    words: Path | None
    weights: Path | None
    teacher: tuple[str, Path] | None
    target: Path | None
    seed: int
    folder: Path

    def identity(self, data: stages.Data) -> dict[str, Any]:
        """Everything that decides the result, by name."""
        files = {
            "weights": self.weights, "tokenizer": self.words, "teacher": self.teacher and self.teacher[1],
            "image tokenizer": self.target,
        }  # fmt: skip
        return {
            "command": "pretrain",
            "backbone": self.backbone,
            "teacher's backbone": self.teacher[0] if self.teacher else "",
            **{name: weight_files.sha256(path) if path else "" for name, path in files.items()},
            "seed": self.seed,
            "data": data_sha256(data),
            "recipe name": self.recipe.name,
            **{f"recipe {name}": value for name, value in self.recipe.deciding().items()},
        }


@dataclass(frozen=True)
class Pretrained:
    """What a stage left: its result, and the picture of its curves."""

    result: Path
    curves: Path | None


def plan(
    recipe: str,
    *,
    data: str | None = None,
    images: str | None = None,
    texts: str | None = None,
    pairs: str | None = None,
    out: str | Path = "runs/pretraining",
    backbone: str | None = None,
    weights: str | None = None,
    tokenizer: str | None = None,
    teacher: str | None = None,
    teacher_backbone: str | None = None,
    image_tokenizer: str | None = None,
    changes: Sequence[str] = (),
    seed: int = 0,
) -> Pretraining:
    """Resolve names and options into a stage.

    Args:
        recipe: see `tasks.pretraining.recipes`.
        data: a folder with `images/`, `texts/` and `pairs/`, or "toy", which is drawn under `out`.
        images, texts, pairs: places of their own instead; see `tasks.pretraining.sources`.
        out: holds a folder for each stage; a stage finds there what those before it made.
        weights: that the training begins with; "none" for random ones. By default those of the stage that the recipe
            names, where it has run.
        teacher: weights of the teacher of a tokenizer; by default the `…_teacher` stage's.
        image_tokenizer: a tokenizer or clusters; by default those of the same size under `out`.

    Raises:
        UsageError: an unknown name, or a file that a stage needs and nothing gives.
        InputError: a path that is not there.
    """
    base = recipes.get(recipe)
    resolved = changed(base, changes)
    name = backbone or recipes.backbone(recipe)
    backbones.require(name)
    root = Path(out)
    found = _sources(data, root=root, images=images, texts=texts, pairs=pairs)
    reads_text = {"texts", "pairs"} & set(resolved.kinds)
    taught = isinstance(resolved, DistillationRecipe | ClusterRecipe)
    teacher_stage = recipes.stage(recipe, "teacher")
    return Pretraining(
        recipe=resolved,
        backbone=name,
        sources=found,
        words=_words(name, tokenizer, weights, found) if reads_text else None,
        weights=_first_weights(resolved, weights, root),
        teacher=(teacher_backbone or name, _needed(teacher, root, teacher_stage, FINAL, "--teacher FILE"))
        if taught
        else None,
        target=_target(recipe, resolved, image_tokenizer, root),
        seed=seed,
        folder=root / recipe,
    )


def run(stage: Pretraining, *, log: Sequence[str] = ()) -> Pretrained:
    """Train a stage to its end, going on where it stopped.

    Raises:
        InputError: see `harness.training.fine_tune`; data that are damaged; a folder that holds another run.
    """
    words = Tokenizer(stage.words) if stage.words else None
    if words:
        words.require_fit(backbones.config(stage.backbone).vocab_size)
    data = stages.read(stage.recipe, stage.sources, words, once=once_per_node)
    identity = stage.identity(data)
    distributed.decided(lambda: _require_same(stage.folder, identity))
    with opened(stage.folder, identity, {}) as work:
        if isinstance(stage.recipe, ClusterRecipe):
            return Pretrained(distributed.decided(lambda: _clustered(stage, data)), None)
        torch.manual_seed(stage.seed)
        model, items, figures = _built(stage, data, words)
        final = work.fine_tuned
        if distributed.decided(final.exists):
            note(f"{stage.recipe.name} is complete: {final}")
        else:
            if stage.weights:
                report = weight_files.load(model, stage.weights, new_heads=True)
                note(f"{stage.weights.name}: {report.loaded} tensors, {len(report.fresh)} begin at random")
            _train(stage, model, items, figures, log=log)
        result = distributed.decided(lambda: _result(stage, model, final))
        return Pretrained(result, distributed.decided(lambda: pretraining_log.draw(stage.folder)))


def data_sha256(data: stages.Data) -> str:
    """Hash of what a stage reads: paths of images within their folder, texts, and pairs."""
    digest = hashlib.sha256()
    for samples in (data.images, data.pairs):
        for sample in samples or ():
            digest.update(f"{sample.id}\0{sample.inputs.get('text', '')}\n".encode())
        digest.update(b"\0\0")
    if data.texts is not None:
        digest.update(data.texts.tobytes())
    return digest.hexdigest()


def _require_same(folder: Path, identity: Mapping[str, Any]) -> None:
    """Refuse to go on with other options or data than a stage began with; nothing began without a checkpoint."""
    file = folder / RUN
    if not (file.is_file() and any(folder.glob(f"{CHECKPOINTS}/*"))):
        return
    before = json.loads(file.read_text())["identity"]
    changes = [f"{name}: {before.get(name)!r} then, {identity.get(name)!r} now" for name in same(before, identity)]
    if changes:
        raise InputError(
            f"{folder} holds this stage with other options or data ({'; '.join(changes)}). Use the same ones to go on, "
            "give another --out, or remove the folder to begin again."
        )


def _train(
    stage: Pretraining, model: BaseModel, items: Dataset, figures: pretraining_log.Figures, *, log: Sequence[str]
) -> None:
    recipe = stage.recipe
    kinds = len(items.kinds) if isinstance(recipe, MaskedDataRecipe) else 1
    columns = {
        "recipe": recipe.name, "recipe_sha256": provenance.recipe_sha256(recipe), "seed": stage.seed,
        "recipe_deviations": "; ".join(recipe.deviations), "train_package": provenance.package(),
    }  # fmt: skip
    watched = PretrainingLog(
        stage.folder,
        figures,
        samples_per_step=recipe.batch_size * kinds,
        flops_per_step=_flops(model, items, recipe),
    )
    figures(model)  # those of the pass that was counted are no part of the training
    folder = stage.folder / CHECKPOINTS
    fine_tune(model, items, recipe, folder=folder, seed=stage.seed, log=log, columns=columns, validation=watched)


def _flops(model: BaseModel, items: Dataset, recipe: PretrainingRecipe) -> float:
    """FLOPs of a step, from one small batch of the first items."""
    few = [items[index] for index in range(min(FLOP_SAMPLES, len(items)))]
    batch = getattr(items, "collate", default_collate)(few)
    return step_flops(model, batch) * recipe.batch_size / len(few)


def _built(
    stage: Pretraining, data: stages.Data, words: Tokenizer | None
) -> tuple[BaseModel, Dataset, Callable[[Any], Any]]:
    """Model, items, and what gives the figures of the training."""
    recipe = stage.recipe
    if isinstance(recipe, ContrastiveRecipe):
        model, items = stages.contrastive(recipe, stage.backbone, data, words)
        return model, items, ContrastiveProbe(items)
    if isinstance(recipe, DistillationRecipe):
        teacher = stages.teacher_of(recipe, stage.backbone, *stage.teacher)
        model, items = stages.distillation(recipe, stage.backbone, data, teacher)
    else:
        target = stages.image_target(recipe, stage.backbone, stage.target)
        model, items = stages.masked(recipe, stage.backbone, data, words, target)
    return model, items, lambda model: model.figures()


def _result(stage: Pretraining, model: BaseModel, final: Path) -> Path:
    """The file that the next stage takes; of a distillation the tokenizer without what it was trained with."""
    if not isinstance(stage.recipe, DistillationRecipe):
        return final
    weight_files.load(model, final)
    made = stage.folder / TOKENIZER
    tokenizer.save(model.tokenizer, made, facts={"recipe": stage.recipe.name, "seed": stage.seed})
    return made


def _clustered(stage: Pretraining, data: stages.Data) -> Path:
    teacher = stages.teacher_of(stage.recipe, stage.backbone, *stage.teacher)
    found = stages.features(teacher, data.images, stage.recipe, count=stage.recipe.images)
    target = clusters.fit(teacher, found, stage.recipe, seed=stage.seed)
    made = stage.folder / CLUSTERS
    clusters.save(target, made, backbone=stage.teacher[0])
    return made


def _sources(data: str | None, *, root: Path, **own: str | None) -> sources.Sources:
    base = sources.Sources()
    if data == TOY:
        base = sources.under(distributed.decided(lambda: toy_data.write(root / "toy-data", progress=track)))
    elif data is not None:
        if not Path(data).is_dir():
            raise InputError(
                f"There is no folder {data}. --data holds images/, texts/ and pairs/; `--data toy` draws practice data."
            )
        base = sources.under(Path(data))
    places = {kind: Path(path) if path else getattr(base, kind) for kind, path in own.items()}
    return sources.Sources(**places)


def _words(backbone: str, given: str | None, weights: str | None, found: sources.Sources) -> Path:
    if given:
        return Path(given)
    places = [backbones.bundled_tokenizer(backbone)]
    places += [Path(weights).parent / OFFICIAL_TOKENIZER] if weights else []
    places += [place.parent / OFFICIAL_TOKENIZER for place in (found.texts, found.pairs) if place]
    for path in places:
        if path is not None and path.is_file():
            return path
    raise UsageError(f"Texts need the tokenizer that belongs to {backbone}: give --tokenizer {OFFICIAL_TOKENIZER}.")


def _first_weights(recipe: PretrainingRecipe, given: str | None, root: Path) -> Path | None:
    if given == "none":
        return None
    if given:
        require_weights(Path(given))
        return Path(given)
    if not recipe.starts_from:
        return None
    return _needed(None, root, recipe.starts_from, FINAL, "--weights FILE, or --weights none for random ones")


def _target(name: str, recipe: PretrainingRecipe, given: str | None, root: Path) -> Path | None:
    if not isinstance(recipe, MaskedDataRecipe) or recipe.image_reconstruction == "none":
        return None
    if recipe.image_target == "pixels":
        return None
    kind, file = ("tokenizer", TOKENIZER) if recipe.image_target == "tokenizer" else ("clusters", CLUSTERS)
    return _needed(given, root, recipes.stage(name, kind), file, "--image-tokenizer FILE")


def _needed(given: str | None, root: Path, stage: str, file: str, option: str) -> Path:
    """A file that was given, or that another stage made."""
    if given:
        require_weights(Path(given))
        return Path(given)
    folder = root / stage / CHECKPOINTS if file == FINAL else root / stage
    path = folder / file
    if path.is_file():
        return path
    first = f"run `harness pretrain {stage}` with the same --out first, or " if stage in recipes.RECIPES else ""
    raise UsageError(f"There is no {path}, which this stage needs: {first}give {option}.")
