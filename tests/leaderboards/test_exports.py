"""Exports, read back by the readers of those formats."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness.cli import main
from leaderboards import exports, results
from leaderboards.rows import write
from tests.conftest import REPOSITORY
from tests.support.rows import ROW, of_run

ABOUT = exports.About(organization="A lab", relationship="third_party", retrieved=1_700_000_000, hub=exports.HUB)
BASE = {"backbone": "beit3_base_patch16_224", "weights": "=x: [1].pth", "resolution": 224, "seed": 0}


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    first = of_run("first", bootstrap_draws=1000, **BASE)
    rows = [
        first,
        dataclasses.replace(first, metric="top5", value=100.0, low=99.9, high=100.0, bootstrap_draws=None),
        dataclasses.replace(first, metric="real_top1", value=None, low=None, high=None, note="no real.json"),
        of_run("second", task="nlvr2", metric="accuracy", split="dev", leak="seen", backbone="other", subset="5 of 9"),
        of_run("third", task="vqav2", metric="accuracy", low=None, high=None, server="EvalAI", backbone="third"),
    ]
    write(tmp_path / "results.csv", rows)
    return results.gather([tmp_path]).frame


@pytest.fixture(scope="module")
def schema() -> dict:
    """The schema of Every Eval Ever 0.3.0; `MULTIWAY_SCHEMAS` names another folder with it."""
    folder = Path(os.environ.get("MULTIWAY_SCHEMAS", REPOSITORY.parent / "shared" / "schemas"))
    file = folder / "every_eval_ever.eval.schema.json"
    if not file.is_file():
        pytest.skip(f"no schema at {file}, and MULTIWAY_SCHEMAS names no other folder")
    return json.loads(file.read_text())


def test_every_eval_ever_files_follow_the_schema(frame: pd.DataFrame, schema: dict) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema of the test extra is not installed")
    files = exports.export("every-eval-ever", frame, ABOUT)
    assert sorted(files) == ["first.json", "second.json", "third.json"]
    for text in files.values():
        jsonschema.validate(json.loads(text), schema)
    record = json.loads(files["first.json"])
    top1, top5 = record["evaluation_results"]  # the metric without a value is left out
    assert top1["score_details"]["score"] == 85.4
    assert top1["score_details"]["uncertainty"] == {
        "confidence_interval": {
            "lower": 85.1, "upper": 85.7, "confidence_level": 0.95, "method": "percentile bootstrap",
        },
        "num_samples": 50_000,
        "num_bootstrap_samples": 1000,
    }  # fmt: skip
    assert top5["score_details"]["uncertainty"]["confidence_interval"]["method"] == "Wilson score"
    assert "uncertainty" not in json.loads(files["third.json"])["evaluation_results"][0]["score_details"]


def test_model_index_is_read_by_the_hubs_library(frame: pd.DataFrame) -> None:
    from huggingface_hub.repocard_data import model_index_to_eval_results

    files = exports.export("model-index", frame, ABOUT)
    (text,) = [text for name, text in files.items() if name.startswith("beit3")]
    index = yaml.safe_load(text.strip().strip("-"))["model-index"]
    name, found = model_index_to_eval_results(index)
    assert name == "beit3_base_patch16_224 from =x: [1], 224 px, seed 0"
    values = {one.metric_type: one.metric_value for one in found}
    assert values == {"top1": 85.4, "top5": 100.0} and isinstance(values["top1"], float)
    assert {(one.dataset_type, one.dataset_split) for one in found} == {("ILSVRC/imagenet-1k", "val")}


def test_eval_results_have_numbers_dates_and_the_interval_as_a_note(frame: pd.DataFrame) -> None:
    files = exports.export("eval-results", frame, ABOUT)
    assert len(files) == 2  # nlvr2 has no data set on the hub that is known here
    entries = [entry for text in files.values() for entry in yaml.safe_load(text)]
    first = entries[0]
    assert first["dataset"] == {"id": "ILSVRC/imagenet-1k", "task_id": "val_top1"}
    assert (first["value"], first["date"]) == (85.4, "2026-01-01")
    assert "95% interval 85.100 to 85.700" in first["notes"]
    assert any("scored by EvalAI" in entry["notes"] for entry in entries)


def test_long_and_wide_csv_open_without_options(frame: pd.DataFrame, tmp_path: Path) -> None:
    (long,) = exports.export("long-csv", frame, ABOUT).values()
    read = pd.read_csv(io.StringIO(long))
    assert len(read) == 5 and read["value"].dtype == float and read["seed"].tolist()[0] == 0
    assert read["weights"][0] == "'=x: [1].pth"  # a spreadsheet shows a text
    (tmp_path / "again.csv").write_text(long)
    again = results.gather([tmp_path / "again.csv"])
    assert not again.problems and again.frame["weights"][0] == "=x: [1].pth"
    (wide,) = exports.export("wide-csv", frame, ABOUT).values()
    lines = {line["run_id"]: line for line in csv.DictReader(io.StringIO(wide))}
    assert float(lines["first"]["imagenet val top1"]) == 85.4
    assert lines["first"]["imagenet val real_top1"] == "" and lines["second"]["imagenet val top1"] == ""


def test_the_command_writes_files_and_says_what_it_left_out(
    frame: pd.DataFrame, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    call = ["export", str(tmp_path / "results.csv"), "--out", str(tmp_path / "out"), "--format"]
    assert main([*call, "eval-results"]) == 1
    assert "nlvr2" in capfd.readouterr().err and len(list((tmp_path / "out").iterdir())) == 2
    assert main([*call, "eval-results", "--hub-dataset", "nlvr2=owner/nlvr2"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert main(["export", str(tmp_path / "results.csv"), "--format", "long-csv"]) == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith("vqav2,")
    assert main(["export", str(tmp_path / "results.csv"), "--format", "every-eval-ever"]) == 2
    assert "--out DIR" in capfd.readouterr().err
    assert main([*call, "eval-results", "--hub-dataset", "nlvr2"]) == 2


def test_the_columns_of_rows_are_all_in_the_long_form(frame: pd.DataFrame) -> None:
    (long,) = exports.export("long-csv", frame, ABOUT).values()
    assert next(csv.reader(io.StringIO(long))) == [column.name for column in dataclasses.fields(ROW)]
