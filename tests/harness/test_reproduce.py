"""`harness reproduce` from the command line: a verdict of each kind, on numbers that the test publishes itself."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from backbones import weights
from harness import reproduce
from harness.benchmarks import facts
from harness.cli import main
from harness.experiment import plan
from harness.weight_check import _confusion
from leaderboards import published
from leaderboards.published import COLUMNS, PublishedRow
from tests.leaderboards.test_verdicts import number

NAME = "toy_in1k"
ASSUMED = {"tolerance_kind": "training, spread assumed"}


@pytest.fixture(scope="module")
def model(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of a random model; a test of verdicts needs no good one."""
    folder = tmp_path_factory.mktemp("weights")
    experiment = plan("imagenet", backbone="multiway_nano", data=colours)
    weights.save(experiment.build_model().state_dict(), folder / f"{NAME}.safetensors")
    return folder


def publish(path: Path, *rows: Mapping[str, object]) -> Path:
    """A file of published numbers."""
    common = {
        "source": "this test", "model": "toy", "size": "multiway_nano", "weights": NAME, "released": "yes",
        "task": "imagenet", "split": "val", "metric": "top1", "unit": "percent", "tolerance_kind": "inference",
        "reason": "made here",
    }  # fmt: skip
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows({**common, **row} for row in rows)
    return path


def reproduced(model: Path, data: Path, out: Path, numbers: Path, *extra: str) -> list[str]:
    table = out / "table.toml"
    table.write_text('[[columns]]\ntask = "imagenet"\nsplit = "val"\nmetric = "top1"\n')
    return [
        "reproduce", str(table), "--data", str(data), "--weights", str(model), "--out", str(out / "runs"),
        "--published", str(numbers), "--dataset", "colours", "--json", *extra,
    ]  # fmt: skip


@pytest.mark.slow
def test_each_of_the_six_verdicts(model: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first = publish(tmp_path / "first.csv", {"value": "50.0", "tolerance": "0.05"})
    assert main(reproduced(model, colours, tmp_path, first)) == 1  # nobody knows the random model's score yet
    value = json.loads(capsys.readouterr().out)[0]["ours"]
    numbers = publish(
        tmp_path / "numbers.csv",
        {"variant": "same", "value": f"{value:.2f}", "tolerance": "0.05"},
        {"variant": "within", "value": f"{value + 0.3:.2f}", "tolerance": "0.5"},
        {"variant": "off", "value": f"{value + 9:.2f}", "tolerance": "0.5"},
        {"variant": "cannot", "value": f"{value + 0.3:.2f}", "tolerance": "0.5", **ASSUMED},
        {"variant": "other", "value": f"{value:.2f}", "tolerance": "0.5", "resolution": "384"},
        {"variant": "never", "value": f"{value:.2f}", "tolerance": "0.5", "released": "no", "weights": ""},
    )  # fmt: skip
    assert main(reproduced(model, colours, tmp_path, numbers)) == 1  # one is off
    found = json.loads(capsys.readouterr().out)
    assert {row["model"].split()[-1]: row["verdict"] for row in found} == {
        "same": "same digits",
        "within": "within noise",
        "off": "off",
        "cannot": "cannot tell",
        "other": "not comparable",
        "never": "not reproducible here",
    }
    assert "the number is of 384 px" in found[4]["reason"] and "never released" in found[5]["reason"]
    with (tmp_path / "runs" / "verdicts-table.csv").open(newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == [row["verdict"] for row in found]
    good = publish(tmp_path / "good.csv", {"value": f"{value:.2f}", "tolerance": "0.05"})
    assert main(reproduced(model, colours, tmp_path, good)) == 0
    capsys.readouterr()
    assert main(reproduced(model, colours, tmp_path / "runs", good, "--plan")) == 0
    (job,) = json.loads(capsys.readouterr().out)["runs"]
    assert job["samples"] == 13 and job["seconds"] > 0 and job["memory"] > 0
    assert not (tmp_path / "runs" / "runs").exists()  # nothing was started


def test_every_released_number_says_why_it_cannot_run_without_files(tmp_path: Path) -> None:
    rows = [row for row in published.rows() if row.source in ("unilm beit3/README.md", "arXiv 2208.10442")]
    planned = reproduce.plan(rows, data=tmp_path, weights=tmp_path, facts=facts())
    assert not planned.jobs and len(planned.refused) == len(rows)
    reasons = {verdict.reason.split(":")[0] for verdict in planned.refused}
    assert "the weights were never released" in reasons
    assert "needs the test server (EvalAI challenge 830)" in reasons
    assert f"beit3_base_patch16_224_in1k.pth is not in {tmp_path}" in reasons


def checkpoint(*, width: int = 768, pixels: int = 224, head: str = "fc_norm.weight") -> dict[str, tuple[int, ...]]:
    rows = (pixels // 16) ** 2 + 3
    return {
        "beit3.encoder.embed_positions.A.weight": (rows, width),
        "beit3.vision_embed.proj.weight": (width, 3, 16, 16),
        head: (1,),
    }


@pytest.mark.parametrize(
    ("state", "row", "reason"),
    [
        (checkpoint(), number(), ""),
        (checkpoint(width=1024), number(), "width 1024, which is large; the number is of base"),
        (checkpoint(), number(size="giant"), "which is base; the number is of giant"),
        (checkpoint(pixels=384), number(), "images of 384 px; the number is of 224 px"),
        (checkpoint(head="logit_scale"), number(), "a retrieval or contrastive (itc) checkpoint"),
        (checkpoint(head="mim_head.weight"), number(task="vqav2"), "a pretrained checkpoint"),
        (checkpoint(head="pooler.dense.weight"), number(task="vqav2"), ""),
        (checkpoint(head="mlm_head.weight"), number(task="coco_captioning"), ""),
        ({"weight": (1,)}, number(), ""),
    ],
)
def test_the_wrong_checkpoint_is_caught(state: dict[str, tuple[int, ...]], row: PublishedRow, reason: str) -> None:
    found = _confusion(state, row)
    assert (reason in found) if reason else found == ""
