"""Pictures and texts of the toy world to pretrain on, in the layout that `sources` reads.

They are drawn from streams of random numbers that no benchmark of the toy set draws from, so none of its pictures is
among them, in any split. `images/still_life` are scenes with true captions and questions; `images/subject` have one
large thing, as those of the ImageNet form; `images/jumble` and `images/landscape` are square tiles of larger pictures,
as detection and segmentation see them, with captions that name what a tile shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.adapter import Progress
from tasks.toy.captions import captions
from tasks.toy.draw import draw, masks
from tasks.toy.files import numbers, save_json, save_picture, save_pixels, save_text
from tasks.toy.folder import begin, finish
from tasks.toy.jumble import sample_jumble
from tasks.toy.landscape import sample_landscape
from tasks.toy.phrases import NUMBERS, article
from tasks.toy.questions import Interviewer
from tasks.toy.scene import MATERIALS, Scene, Texture, Thing, generator, pick, sample_scene
from tasks.toy.shapes import SHAPES
from tasks.toy.statements import sample_group
from tasks.toy.still_life import Palette, sample_still_life

VERSION = 3
SIZES = {"still_life": 10_000, "subject": 14_000, "jumble": 1_000, "landscape": 1_500, "texts": 3_000}
LEAST = 4
TILE = 80  # pixels, as the square pictures of the benchmarks
ENLARGED = {"jumble": 3, "landscape": 2}  # longer side in tiles, as in tasks.toy.instances and tasks.toy.ade20k
SEEN = 60  # pixels of a thing on a tile from which a caption names it
CAPTIONS = 4  # of a still life
FORMS = (  # of the captions of a subject
    # Most name the shape alone: where colours tell pictures apart, shapes are hardly learnt.
    "{noun}", "a large {shape}", "a picture of {noun}", "there is a big {shape}", "{painted}", "{noun} before {ground}",
)  # fmt: skip
SUBJECT_CAPTIONS = 3
ASKED = ("yes/no", "other", "number")
SURFACES = {
    "solid": "plain", "striped": "striped", "dotted": "dotted", "checkered": "checkered", "gradient": "shaded",
    "noisy": "blotchy",
}  # fmt: skip

Row = dict[str, Any]


def write(folder: Path, *, seed: int = 0, scale: float = 1.0, progress: Progress | None = None) -> Path:
    """Draw the data under `folder`; done again with the same arguments it draws nothing.

    Args:
        scale: of the numbers of pictures and texts.
        progress: wraps an iterable in a progress bar with a title.

    Raises:
        InputError: the folder holds something else.
    """
    sizes = {name: max(LEAST, round(scale * size)) for name, size in SIZES.items()}
    if begin(folder, {"version": VERSION, "seed": seed, **sizes}):
        return folder
    described: list[Row] = []
    asked: list[Row] = []
    interviewer = Interviewer()
    for index in numbers(sizes["still_life"], "draw still lifes", progress):
        rng = generator(seed, "pretraining/still_life", index)
        scene = sample_still_life(rng, Palette())
        name = _save(folder, "still_life", index, scene)
        described.append(_row(name, captions(rng, scene, CAPTIONS), first=10 * index))
        questions = [f"{question.text} {question.answer}" for question in interviewer.ask(rng, scene, ASKED)]
        asked.append(_row(name, questions, first=10 * index))
    for index in numbers(sizes["subject"], "draw subjects", progress):
        rng = generator(seed, "pretraining/subject", index)
        scene = sample_scene(rng)
        name = _save(folder, "subject", index, scene)
        described.append(_row(name, _about_subject(rng, scene), first=10**7 + 10 * index))
    for kind in ENLARGED:
        for index in numbers(sizes[kind], f"draw {kind}s", progress):
            described += _tiles(folder, kind, index, seed=seed)
    _save_pairs(folder / "pairs" / "captions.json", described)
    _save_pairs(folder / "pairs" / "questions.json", asked)
    save_text(folder / "texts" / "toy.txt", "".join(f"{line}\n" for line in _texts(sizes["texts"], seed=seed)))
    finish(folder)
    return folder


def _save(folder: Path, kind: str, index: int, scene: Scene) -> str:
    """Draw a scene; returns its path in the folder."""
    name = f"images/{kind}/{index:06d}.jpg"
    save_picture(folder / name, scene, image_size=TILE)
    return name


def _row(name: str, texts: list[str], *, first: int) -> Row:
    """An entry of a Karpathy file, its sentences numbered from `first`."""
    path = Path(name)
    sentences = [{"raw": text, "sentid": first + number} for number, text in enumerate(texts)]
    return {
        "filepath": str(path.parent), "filename": path.name, "split": "train", "imgid": name, "sentences": sentences,
    }  # fmt: skip


def _save_pairs(path: Path, rows: list[Row]) -> None:
    save_json(path, {"images": rows, "dataset": "toy"})


def _painted(texture: Texture, noun: str) -> str:
    if texture.material == "solid":
        return article(f"{texture.colour} {noun}")
    return f"{article(SURFACES[texture.material])} {noun} in {texture.colour} and {texture.accent}"


def _about_subject(rng: np.random.Generator, scene: Scene) -> list[str]:
    """Sentences on the largest thing, one of them sometimes on what it is before."""
    words = {
        "shape": scene.subject.shape,
        "noun": article(scene.subject.shape),
        "painted": _painted(scene.subject.texture, scene.subject.shape),
        "ground": _painted(scene.background, "background"),
    }
    return [FORMS[place].format(**words) for place in rng.permutation(len(FORMS))[:SUBJECT_CAPTIONS]]


def _tiles(folder: Path, kind: str, index: int, *, seed: int) -> Iterator[Row]:
    """Cut a large picture into whole tiles, each with a caption where it shows something that has a name."""
    rng = generator(seed, f"pretraining/{kind}", index)
    size = TILE * ENLARGED[kind]
    if kind == "jumble":
        scene, surfaces = sample_jumble(rng, size=size).scene, 0
    else:
        drawn = sample_landscape(rng, material=pick(rng, MATERIALS), subject=pick(rng, SHAPES))
        scene, surfaces = drawn.scene, drawn.surfaces
    pixels, seen = draw(scene, size=size), masks(scene, size=size)
    tiles = [
        (slice(top, top + TILE), slice(left, left + TILE))
        for top in range(0, pixels.shape[0] - TILE + 1, TILE)
        for left in range(0, pixels.shape[1] - TILE + 1, TILE)
    ]
    for number, tile in enumerate(tiles):
        name = f"images/{kind}/{index:06d}-{number}.jpg"
        path = folder / name
        if not path.exists():
            save_pixels(path, pixels[tile])
        areas = seen[(slice(None), *tile)].sum((1, 2))
        shown = [thing for thing, area in zip(scene.things[surfaces:], areas[surfaces:], strict=True) if area >= SEEN]
        grounds = [thing.texture for thing, area in zip(scene.things[:surfaces], areas, strict=False) if area >= SEEN]
        if kind == "landscape" and areas.sum() <= TILE**2 - SEEN:
            grounds.append(scene.background)
        if shown or grounds:
            first = (2 + list(ENLARGED).index(kind)) * 10**7 + 10 * index + number
            yield _row(name, [_listed(rng, shown, grounds)], first=first)


def _listed(rng: np.random.Generator, things: list[Thing], grounds: list[Texture]) -> str:
    """Shapes with their numbers and surfaces by their pattern, in any order."""
    counts = Counter(thing.shape for thing in things)
    said = [
        article(shape) if count == 1 else f"{NUMBERS[min(count, 10)]} {shape}{'es' if shape.endswith('s') else 's'}"
        for shape, count in counts.items()
    ]
    said += [article(f"{SURFACES[texture.material]} surface") for texture in grounds]
    said = [said[place] for place in rng.permutation(len(said))]
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)


def _texts(rounds: int, *, seed: int) -> Iterator[str]:
    """Captions, questions with their answers, and statements about scenes that are not drawn."""
    interviewer = Interviewer()
    for index in range(rounds):
        rng = generator(seed, "pretraining/texts", index)
        scene = sample_still_life(rng, Palette())
        yield from captions(rng, scene, 3)
        for question in interviewer.ask(rng, scene, ASKED):
            yield f"{question.text} {question.answer}"
        yield from (statement.text for statement in sample_group(rng).statements)
