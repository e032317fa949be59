"""Planning a grid: identities that hold every default, shared stages of pretraining, wrong names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backbones import bundled
from backbones.errors import InputError, UsageError
from harness.grids import identity, planning
from harness.grids.jobs import Job, of
from harness.grids.planning import of_size
from harness.hardware import Hardware
from leaderboards import grids
from tasks import toy
from tasks.classification import recipes as classification
from tasks.pretraining import toy_data

CPU = Hardware(kind="cpu", bf16=False)
GRID = """
backbone = "multiway_nano"
baseline = "plain"
seeds = [0, 1]
[[columns]]
task = "imagenet"
split = "val"
metric = "top1"
set = { image_size = 16, batch_size = 8, micro_batch = 8, steps = 1, workers = 0 }
[[rows]]
name = "plain"
[[rows]]
name = "fast"
finetuning = { lr = 0.1 }
"""
PRETRAINED = """
[pretraining]
recipe = "nano_masked"
weights = "none"
"""


def written(folder: Path, text: str = GRID) -> Path:
    path = folder / "grid.toml"
    path.write_text(text)
    return path


def planned(folder: Path, data: Path, text: str = GRID, **options: object) -> planning.Plan:
    return planning.plan(written(folder, text), data=str(data), out=folder / "out", device=CPU, **options)


def cell(found: planning.Plan, row: str = "plain", seed: int = 0) -> Job:
    return next(job for job in found.jobs if (job.kind, job.row, job.seed) == ("cell", row, seed))


def test_an_identity_holds_every_default(colours: Path, tmp_path: Path) -> None:
    job = cell(planned(tmp_path, colours))
    recipe = job.identity["recipe"]
    assert set(classification.RECIPES["nano"].deciding()) < set(recipe)
    assert (recipe["lr"], recipe["steps"], recipe["beta2"]) == (classification.RECIPES["nano"].lr, 1, 0.999)
    assert job.identity["backbone"]["layers"] == 6
    assert set(job.identity["data"]) == {"train", "val"}
    assert job.identity["metrics"]["top1"] == 1
    assert (job.identity["device"], job.identity["train_precision"]) == ("cpu", "fp32")
    assert len(job.key) == 64 and job.path.name == job.key[:16]


def test_random_values_are_another_cell_than_the_bundled_weights(colours: Path, tmp_path: Path) -> None:
    begun = cell(planned(tmp_path, colours))
    fresh = cell(planned(tmp_path, colours, GRID.replace('name = "plain"', 'name = "plain"\nweights = "none"')))
    assert Path(begun.options["weights"]) == bundled.weights("multiway_nano")
    assert begun.identity["weights"] == bundled.SHA256["multiway_nano.safetensors"]
    assert (fresh.options["weights"], fresh.identity["weights"]) == ("none", "")
    assert fresh.key != begun.key


def test_a_changed_default_is_another_cell(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cell(planned(tmp_path, colours))
    nano = replace(classification.RECIPES["nano"], beta2=0.95)
    monkeypatch.setitem(classification.RECIPES, "nano", nano)
    after = cell(planned(tmp_path, colours))
    assert after.key != before.key
    assert identity.difference(after.identity, before.identity) == {"recipe.beta2": (0.95, 0.999)}


def test_what_decides_a_result_decides_the_key(colours: Path, tmp_path: Path) -> None:
    found = planned(tmp_path, colours)
    keys = {job.key for job in found.jobs}
    assert len(keys) == 4
    for options in ({"device": replace(CPU, bf16=True)}, {"device": replace(CPU, kind="cuda", name="A GPU")}):
        other = planning.plan(written(tmp_path), data=str(colours), out=tmp_path / "out", **options)
        assert not keys & {job.key for job in other.jobs}
    with_limit = planned(tmp_path, colours, GRID + "[budget]\nlimit = 10\n")
    assert not keys & {job.key for job in with_limit.jobs}
    (colours / "val" / "class0" / "new.JPEG").write_bytes(b"")
    try:
        assert not keys & {job.key for job in planned(tmp_path, colours).jobs}
    finally:
        (colours / "val" / "class0" / "new.JPEG").unlink()
    slower = planned(tmp_path, colours, GRID.replace("workers = 0", "workers = 0, checkpoint_activations = true"))
    assert keys == {job.key for job in slower.jobs}  # placement on the machine decides nothing


def test_a_key_is_that_of_canonical_json() -> None:
    assert identity.key({"b": [1, 2], "a": "ä"}) == identity.key(json.loads('{"a": "ä", "b": [1, 2]}'))
    assert identity.key({"a": 1}) != identity.key({"a": "1"})


def test_the_difference_names_fields_and_whole_parts() -> None:
    one = {"recipe": {"name": "r", "lr": 1}, "pretraining": {"stage": "s", "recipe": {"name": "s", "x": 1}}, "seed": 0}
    other = {"recipe": {"name": "r", "lr": 2}, "pretraining": "", "seed": 0}
    assert identity.difference(one, other) == {"recipe.lr": (1, 2), "pretraining": ("s", "")}
    assert identity.words(identity.difference(one, other)) == "lr=1, pretraining=s"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr = 0.1", "lrr = 0.1", "row 'fast', column 'imagenet val top1': Unknown recipe field 'lrr'"),
        ("lr = 0.1", 'lr = "fast"', "Recipe field lr is a number; 'fast' is not one"),
        ('"top1"', '"top2"', "Unknown metric of imagenet 'top2'"),
        ('"val"', '"vall"', "Unknown split of imagenet 'vall'"),
        ('"imagenet"', '"imagnet"', "Did you mean imagenet"),
        ("finetuning = { lr = 0.1 }", "backbone = { layer = 2 }", "Unknown backbone field 'layer'"),
        ("lr = 0.1", "drop_path = 0.0", "a row twice: 'fast' and 'plain' come to the same"),
    ],
)
def test_wrong_names_are_told_with_their_place(colours: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    nano = classification.RECIPES["nano"].drop_path
    assert nano == 0 or "drop_path" not in new
    with pytest.raises(UsageError, match=message):
        planned(tmp_path, colours, GRID.replace(old, new))


def test_a_split_without_public_truth_is_refused(tmp_path: Path) -> None:
    text = GRID.replace('"imagenet"', '"vqav2"').replace('"val"', '"test-dev"').replace('"top1"', '"accuracy"')
    with pytest.raises(
        UsageError, match=r"not public, so no cell can be scored. Use another split: train, val, rest_v"
    ):
        planned(tmp_path, tmp_path, text)


def test_data_have_to_be_given(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no data: give --data ROOT"):
        planning.plan(written(tmp_path), out=tmp_path, device=CPU)
    with pytest.raises(InputError, match="There is no folder"):
        planning.plan(written(tmp_path), data=str(tmp_path / "none"), out=tmp_path, device=CPU)


@pytest.fixture(scope="module")
def pretraining_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_data.write(tmp_path_factory.mktemp("pretraining") / "toy", scale=0.001)


def test_cells_that_share_a_pretraining_share_its_result(colours: Path, tmp_path: Path, pretraining_data: Path) -> None:
    found = planned(tmp_path, colours, GRID + PRETRAINED, pretraining_data=str(pretraining_data))
    stages = {(job.column, job.seed): job for job in found.jobs if job.kind == "stage"}
    assert set(stages) == {("nano_teacher", 0), ("nano_tokenizer", 0), ("nano_masked", 0), ("nano_masked", 1)}
    for seed in (0, 1):
        for row in ("plain", "fast"):
            assert cell(found, row, seed).needs == (stages["nano_masked", seed].key,)
    assert stages["nano_masked", 1].needs == (stages["nano_tokenizer", 0].key,)
    assert stages["nano_tokenizer", 0].needs == (stages["nano_teacher", 0].key,)
    waves = found.waves()
    assert [len(wave) for wave in waves] == [1, 1, 2, 4]
    assert [of(one).column for one in waves[0]] == ["nano_teacher"]


def test_a_row_that_changes_pretraining_has_its_own(colours: Path, tmp_path: Path, pretraining_data: Path) -> None:
    text = GRID.replace("finetuning = { lr = 0.1 }", 'pretraining = { transformer = "standard" }') + PRETRAINED
    found = planned(tmp_path, colours, text, pretraining_data=str(pretraining_data), seeds=(0,))
    plain, standard = cell(found, "plain"), cell(found, "fast")
    apart = identity.difference(standard.identity, plain.identity)
    assert apart["pretraining.recipe.transformer"] == ("standard", "multiway")
    assert apart["backbone.experts"] == ("standard", "multiway")  # fine-tuned as it was pretrained
    assert standard.needs != plain.needs
    assert "recipe.lr" not in apart


def test_two_metrics_of_one_fine_tuning_share_their_cells(colours: Path, tmp_path: Path) -> None:
    other = GRID.replace("[[rows]]", GRID[GRID.index("[[columns]]") : GRID.index("[[rows]]")] + "[[rows]]", 1)
    found = planned(tmp_path, colours, other.replace('"top1"', '"top5"', 1))
    assert len(found.jobs) == 4
    assert len(found.cells) == 8
    assert {job.metric for job in found.cells.values()} == {"top1", "top5"}
    assert [job.seed for job in found.jobs] == [0, 0, 1, 1]


def test_a_file_that_nobody_gives_is_asked_for(colours: Path, tmp_path: Path, pretraining_data: Path) -> None:
    text = GRID.replace("multiway_nano", "beit3_base_patch16_224") + PRETRAINED.replace("nano_masked", "base_masked")
    with pytest.raises(UsageError, match=r"row 'plain': .*--tokenizer FILE|--image-tokenizer FILE"):
        planned(tmp_path, colours, text, pretraining_data=str(pretraining_data))


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest toy data of the tasks of the paper's grids."""
    folder = tmp_path_factory.mktemp("practice")
    toy.write(folder, tasks=("coco", "nlvr2", "flickr30k"), scale=0.001, image_size=32)
    return folder


@pytest.mark.slow
def test_the_paper_grids_share_the_pretraining_of_their_baseline(
    practice: Path, pretraining_data: Path, tmp_path: Path
) -> None:
    baselines, variants = set(), set()
    for name in grids.names():
        found = planning.plan(
            name, data=str(practice), pretraining_data=str(pretraining_data), out=tmp_path, device=CPU, seeds=(0,)
        )
        assert len(found.cells) == 3 * len(found.grid.run_rows)
        assert len(found.jobs) == len(found.cells) + len({job.key for job in found.jobs if job.kind == "stage"})
        for (row, _, _), job in found.cells.items():
            (baselines if row == found.grid.baseline else variants).add(job.needs)
            assert job.identity["pretraining"]["weights"] == ""  # from random weights, all of them
    assert len(baselines) == 1
    assert len(variants) == 1 + 1 + 2 + 2 + 3 + 3 and not baselines & variants


def test_another_size_takes_its_own_recipes_and_no_budget() -> None:
    base = of_size(grids.load("ablation_e_text_reconstruction"), "base")
    assert (base.backbone, base.pretraining.recipe, base.data) == ("beit3_base_patch16_224", "base_masked", "")
    assert base.pretraining.weights == "none" and not base.budget.minutes
    with pytest.raises(UsageError, match="Unknown size"):
        of_size(base, "huge")


def test_a_specification_survives_json_and_no_change_by_hand(colours: Path, tmp_path: Path) -> None:
    job = cell(planned(tmp_path, colours))
    specification = json.loads(json.dumps(job.specification()))
    assert of(specification) == job
    with pytest.raises(InputError, match="changed by hand"):
        of({**specification, "identity": {**specification["identity"], "seed": 5}})
    with pytest.raises(InputError, match="no specification of a cell"):
        of({**specification, "colour": "red"})
    with pytest.raises(InputError, match="form 0"):
        of({**specification, "form": 0})
