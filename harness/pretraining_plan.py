"""Plan of a stage of pretraining: a recipe, a backbone, data and the files of stages before it, all resolved."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backbones
from backbones import weights as weight_files
from backbones.errors import InputError, UsageError
from backbones.files import require_weights
from harness import distributed
from harness.experiment import NO_WEIGHTS, require_seed
from harness.progress import track
from harness.workdir import CHECKPOINTS, FINAL
from tasks.pretraining import recipes, sources, stages, toy_data
from tasks.pretraining.recipe import ClusterRecipe, DistillationRecipe, MaskedDataRecipe, PretrainingRecipe
from tasks.recipe import changed

TOY = "toy"  # as --data: drawn under --out
TOKENIZER, CLUSTERS = "tokenizer.safetensors", "clusters.safetensors"
OFFICIAL_TOKENIZER = "beit3.spm"


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
    require_seed(seed)
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
    if given == NO_WEIGHTS:
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
