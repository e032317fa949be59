from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import backbones
import harness
import tasks
from backbones import weights
from harness.cli import main
from harness.experiment import plan
from tasks.retrieval.model import DualEncoder
from tests.backbones.test_multiway import small
from tests.support.photographs import karpathy_split
from tests.support.runs import execute
from tests.tasks.captioned import write_coco

ADAPTER = tasks.get("coco_retrieval")


def test_the_primary_metric_is_that_of_the_papers_overview() -> None:
    assert [metric.name for metric in ADAPTER.metrics if metric.primary] == ["mean_R1"]
    assert (ADAPTER.eval_split, ADAPTER.splits["test"].size) == ("test", 5_000 + 25_010)
    # 82,783 + 40,504 images and 414,113 + 202,654 captions of COCO 2014, all of them in one split.
    assert sum(count.images for count in ADAPTER.sizes.values()) == 123_287
    assert sum(count.captions for count in ADAPTER.sizes.values()) == 616_767


def test_the_zero_shot_task_scores_the_same_samples_and_trains_nothing(tmp_path: Path) -> None:
    zero_shot = tasks.get("coco_zero_shot")
    root = write_coco(tmp_path)
    assert zero_shot.samples(root, "test") == ADAPTER.samples(root, "test")
    assert list(zero_shot.splits) == ["val", "test"]
    assert {key: recipe.image_size for key, recipe in zero_shot.recipes.items()} == {
        "base": 224, "large": 224, "giant": 224, "nano": 80,
    }  # fmt: skip
    assert not any(recipe.trains for recipe in zero_shot.recipes.values())
    with pytest.raises(backbones.UsageError, match=r"never saw COCO Captions.*take coco_retrieval"):
        zero_shot.samples(root, "train")


def test_published_features_score_as_published(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Every retrieval case of the manifest, through `harness score`, to the printed digit."""
    manifest = json.loads((truth / "manifest.json").read_text())
    cases = [case for case in manifest["cases"] if case["task"] == "coco_retrieval"]
    assert cases
    for case in cases:
        root = tmp_path / case["id"]
        root.mkdir()
        features = _write_truth(truth, case, root)
        assert main(["score", "coco_retrieval", str(features), "--data", str(root), "--json"]) == 0
        found = {row["metric"]: row for row in json.loads(capsys.readouterr().out)}
        for name, printed in case["expected"].items():
            digits = len(printed.partition(".")[2])
            assert f"{found[name]['value']:.{digits}f}" == printed, (case["id"], name)
            assert found[name]["low"] < float(printed) < found[name]["high"]


def _write_truth(truth: Path, case: dict, root: Path) -> Path:
    """A case of the manifest as Karpathy's json and an .npz file: as many captions in turn for each image."""
    ids = json.loads((truth / case["ids"]).read_text())
    images, captions = ids["image_ids"], ids["caption_ids"]
    each = len(captions) // len(images)
    assert each * len(images) == len(captions)
    rows = []
    for number, image in enumerate(images):
        sentences = [{"sentid": name, "raw": "?"} for name in captions[number * each : (number + 1) * each]]
        row = {"filepath": "val2014", "filename": f"COCO_val2014_{image:012d}.jpg", "cocoid": image}
        rows.append(row | {"split": "test", "sentences": sentences})
    (root / "dataset_coco.json").write_text(json.dumps({"images": rows}))
    # Features may come in any order.
    order = np.random.default_rng(0).permutation(len(captions))
    np.savez(
        root / "features.npz",
        image_ids=np.array(images),
        image_features=np.load(truth / case["image_features"]),
        text_ids=np.array(captions)[order],
        text_features=np.load(truth / case["text_features"])[order],
    )
    return root / "features.npz"


def official_state(*, layers: int, dim: int, ffn: int, patch: int, grid: int, rows: int) -> dict[str, torch.Tensor]:
    """A retrieval checkpoint under the names and shapes of the official files."""
    shapes: dict[str, tuple[int, ...]] = {
        "beit3.text_embed.weight": (rows, dim),
        "beit3.vision_embed.mask_token": (1, 1, dim),
        "beit3.vision_embed.cls_token": (1, 1, dim),
        "beit3.vision_embed.proj.weight": (dim, 3, patch, patch),
        "beit3.vision_embed.proj.bias": (dim,),
        "beit3.encoder.embed_positions.A.weight": (grid**2 + 3, dim),
        "beit3.encoder.embed_positions.B.weight": (40, dim),
    }
    for layer in range(layers):
        for expert in ("A", "B"):
            start = f"beit3.encoder.layers.{layer}"
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes[f"{start}.self_attn.{name}.{expert}.weight"] = (dim, dim)
                shapes[f"{start}.self_attn.{name}.{expert}.bias"] = (dim,)
            shapes[f"{start}.ffn.{expert}.fc1.weight"] = (ffn, dim)
            shapes[f"{start}.ffn.{expert}.fc1.bias"] = (ffn,)
            shapes[f"{start}.ffn.{expert}.fc2.weight"] = (dim, ffn)
            shapes[f"{start}.ffn.{expert}.fc2.bias"] = (dim,)
            for name, width in (
                (f"self_attn.inner_attn_ln.{expert}", dim),
                (f"self_attn_layer_norm.{expert}", dim),
                (f"final_layer_norm.{expert}", dim),
                (f"ffn.{expert}.ffn_layernorm", ffn),
            ):
                shapes[f"{start}.{name}.weight"] = shapes[f"{start}.{name}.bias"] = (width,)
    for expert in ("A", "B"):
        for kind in ("weight", "bias"):
            shapes[f"beit3.encoder.layer_norm.{expert}.{kind}"] = (dim,)
    shapes |= {"language_head.weight": (dim, dim), "vision_head.weight": (dim, dim), "logit_scale": ()}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


SMALL_SHAPES = {"layers": 4, "dim": 32, "ffn": 64, "patch": 8, "rows": 50}


@pytest.mark.parametrize("new_heads", [False, True], ids=["predicting", "fine-tuning"])
def test_official_retrieval_checkpoints_load_completely(tmp_path: Path, new_heads: bool) -> None:
    state = official_state(**SMALL_SHAPES, grid=4)
    torch.save({"model": state}, tmp_path / "coco_retrieval.pth")
    model = DualEncoder(small())
    assert weights.load(model, tmp_path / "coco_retrieval.pth", new_heads=new_heads) == (
        weights.LoadReport(len(state), (), (), (), image_size=32)
    )
    assert model.logit_scale.equal(state["logit_scale"])
    assert model.beit3.encoder.layers[3].ffn["B"].fc1.weight.equal(state["beit3.encoder.layers.3.ffn.B.fc1.weight"])


def test_the_contrastive_checkpoint_loads_completely_at_another_resolution(tmp_path: Path) -> None:
    """The released itc files are at 224 pixels; fine-tuning is at 384 and takes their heads over."""
    state = official_state(**SMALL_SHAPES, grid=2)
    torch.save({"model": state}, tmp_path / "itc.pth")
    model = DualEncoder(small())
    report = weights.load(model, tmp_path / "itc.pth", new_heads=True)
    table = "beit3.encoder.embed_positions.A.weight"
    assert report == weights.LoadReport(len(state), (), (), (table,), image_size=16)
    assert model.vision_head.weight.equal(state["vision_head.weight"])


def test_fine_tuning_from_a_backbone_alone_starts_the_heads_afresh(tmp_path: Path) -> None:
    heads = {"language_head.weight", "vision_head.weight", "logit_scale"}
    state = {k: v for k, v in official_state(**SMALL_SHAPES, grid=4).items() if k not in heads}
    torch.save({"model": state | {"mlm_head.bias": torch.zeros(50)}}, tmp_path / "pretrained.pth")
    report = weights.load(DualEncoder(small()), tmp_path / "pretrained.pth", new_heads=True)
    assert (set(report.fresh), report.ignored) == (heads, ("mlm_head.bias",))
    with pytest.raises(backbones.InputError, match=r"Missing \(3\): .*language_head.weight"):
        weights.load(DualEncoder(small()), tmp_path / "pretrained.pth")


def test_real_photographs_go_the_full_way(truth: Path, spm: Path, tmp_path: Path) -> None:
    """Photographs of every shape with captions as people wrote them: fine-tune, predict, score."""
    data = karpathy_split(truth, tmp_path / "coco")
    assert len([s for s in ADAPTER.samples(data, "train") if "image" in s.inputs]) == 128
    changes = ["image_size=32", "batch_size=64", "micro_batch=64", "epochs=1", "workers=1"]
    options = {"backbone": "multiway_nano", "tokenizer": spm, "data": data, "out": tmp_path / "out"}
    rows = harness.run("coco_retrieval", changes=changes, **options)
    scores = {row.metric: row for row in rows}
    assert (scores["i2t_R1"].n, scores["t2i_R1"].n, scores["mean_R1"].n) == (64, 320, 384)
    for direction in ("i2t", "t2i"):
        assert scores[f"{direction}_R1"].value <= scores[f"{direction}_R5"].value <= scores[f"{direction}_R10"].value
    # Ten steps teach little: chance at 10 of 64 is 16 %.
    assert 5 < scores["t2i_R10"].value < 80
    assert scores["mean_recall"].low < scores["mean_recall"].value < scores["mean_recall"].high


@pytest.mark.spawn
def test_several_processes_train_and_predict_what_one_does(spm: Path, tmp_path: Path) -> None:
    """Each holds a third of the batch, and the loss compares all of it; 8 images and 20 texts in batches of 6 or 2."""
    data = write_coco(tmp_path / "coco")
    fixed = ["coco_retrieval", "--backbone", "multiway_nano", "--tokenizer", spm, "--data", data]
    for change in (
        "image_size=16",
        "batch_size=6",
        "epochs=1",
        "warmup_epochs=0",
        "workers=0",
        "precision=fp32",
        "eps=1e-3",
    ):
        fixed += ["--set", change]
    one, three = tmp_path / "one", tmp_path / "three"
    execute(["run", *fixed, "--out", one, "--set", "micro_batch=6"])
    execute(["run", *fixed, "--out", three, "--set", "micro_batch=2"], count=3)
    folders = [out / "coco_retrieval" / "multiway_nano-seed0" for out in (one, three)]
    tuned = [folder / "checkpoints" / "final.safetensors" for folder in folders]
    start = plan("coco_retrieval", backbone="multiway_nano", data=data, tokenizer=spm).build_model().state_dict()
    states = [load_file(file) for file in tuned]
    for name, tensor in states[0].items():
        # A key's bias moves no attention: its gradient is rounding alone, and Adam makes full steps of it.
        if not (".k_proj." in name and name.endswith(".bias")):
            assert (tensor - states[1][name]).abs().max() < 1e-4, name
    head = "vision_head.weight"
    assert (states[0][head] - start[head]).abs().max() > 1e-3
    # With the same weights and batches the predictions are the same to the byte.
    options = ["--out", tmp_path / "again", "--set", "micro_batch=6", "--weights", tuned[0], "--json"]
    again = Path(json.loads(execute(["predict", *fixed, *options], count=3).stdout)["predictions"])
    before = folders[0] / "predictions" / "test.jsonl"
    for suffix in (".jsonl", ".arrays"):
        assert again.with_suffix(suffix).read_bytes() == before.with_suffix(suffix).read_bytes()
