from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import harness
import tasks
from backbones import InputError, weights
from harness.cli import main
from tests.conftest import FAST
from tests.support.runs import command, execute
from tests.tasks.reasoning.files import DATA, labels, statements

ADAPTER = tasks.get("nlvr2")
TOGETHER = ("micro_batch=2", "precision=fp32", "drop_path=0.0", "lr=1e-4")


def test_published_scores(truth: Path, tmp_path: Path) -> None:
    cases = [case for case in json.loads((truth / "manifest.json").read_text())["cases"] if case["task"] == "nlvr2"]
    assert cases
    for number, case in enumerate(cases):
        root = tmp_path / str(number)
        (root / DATA).mkdir(parents=True)
        split = "dev" if "dev" in Path(case["annotations"]).name else "test-P"
        (root / DATA / {"dev": "dev.json", "test-P": "test1.json"}[split]).symlink_to(truth / case["annotations"])
        predictions = root / "all_true.csv"
        if case["predictions"] is None:
            predictions.write_text("".join(f"{sample.id},True\n" for sample in ADAPTER.samples(root, split)))
        else:
            predictions = truth / case["predictions"]
        rows = {row.metric: row for row in harness.score("nlvr2", predictions, data=root, split=split)}
        for metric, printed in case["expected"].items():
            assert f"{rows[metric].value:.{len(printed.partition('.')[2])}f}" == printed, (case["id"], metric)


def test_submission_is_the_file_that_the_official_script_reads(folder: Path, tmp_path: Path) -> None:
    samples = ADAPTER.samples(folder, "test-P")
    predictions = labels(samples, {"test1-1-0-0"})
    (submission,) = ADAPTER.submission(predictions, samples, split="test-P", name="ours")
    assert submission.filename == "nlvr2_test-P_ours.csv"
    lines = submission.content.decode().splitlines()
    assert lines[0] == "test1-0-0-0,True"
    assert len(lines) == 12
    (tmp_path / "back.csv").write_bytes(submission.content)
    assert {
        record["id"]: {"label": record["label"]} for record in ADAPTER.read_official(tmp_path / "back.csv")
    } == predictions


@pytest.mark.training
def test_fine_tunes_predicts_and_scores(folder: Path, spm: Path, tmp_path: Path) -> None:
    options = {"backbone": "multiway_nano", "data": folder, "out": tmp_path / "runs", "tokenizer": spm}
    rows = harness.run("nlvr2", **options, changes=FAST)
    assert [(row.metric, row.n, row.split) for row in rows] == [("accuracy", 12, "dev"), ("consistency", 6, "dev")]
    assert rows[0].tokenizer_sha256 == weights.sha256(spm)
    final = tmp_path / "runs" / "nlvr2" / "multiway_nano-seed0" / "checkpoints" / "final.safetensors"
    path = harness.predict("nlvr2", **options, weights=final, split="test-P", changes=FAST)
    assert len(harness.score("nlvr2", path, data=folder, split="test-P")) == 2


@pytest.mark.spawn
def test_two_processes_train_and_predict_as_one(folder: Path, spm: Path, tmp_path: Path) -> None:
    """Pairs leave parameters of the backbone without a gradient, which averaging must not wait for."""
    tensors, predictions = [], []
    for processes in (0, 2):
        out = tmp_path / str(processes)
        tokenizer = ("--tokenizer", str(spm))
        execute(command(folder, out, *TOGETHER, task="nlvr2", extra=tokenizer), count=processes)
        run = out / "nlvr2" / "multiway_nano-seed0"
        tensors.append(load_file(run / "checkpoints" / "final.safetensors"))
        predictions.append([json.loads(line) for line in (run / "predictions" / "dev.jsonl").read_text().splitlines()])
    for name, tensor in tensors[0].items():
        if not name.endswith(".k_proj.B.bias") and not name.endswith(".k_proj.A.bias"):  # no gradient but rounding
            torch.testing.assert_close(tensors[1][name], tensor, atol=1e-4, rtol=0, msg=name)
    assert [record["id"] for record in predictions[0]] == [record["id"] for record in predictions[1]]
    for one, two in zip(*predictions, strict=True):
        assert one["margin"] == pytest.approx(two["margin"], abs=1e-3)


def test_check_counts_and_names_what_is_absent(folder: Path) -> None:
    def findings() -> list:
        return ADAPTER.check(folder, decode=False, progress=lambda items, title: items)

    assert all(finding.ok for finding in findings())
    assert "16 statements (official: 86,373), 8 sentences" in findings()[0].text
    (folder / "dev" / "dev-1-0-img1.png").unlink()
    (wrong,) = [finding.text for finding in findings() if not finding.ok]
    assert "dev: 1 of 12 images absent, such as" in wrong
    assert "dev-1-0-img1.png" in wrong


def test_a_folder_is_complete_without_test_u_but_not_with_half_of_it(folder: Path) -> None:
    def faults() -> list[str]:
        found = ADAPTER.check(folder, decode=False, progress=lambda items, title: items)
        return [finding.text for finding in found if not finding.ok]

    assert faults() == []
    statements(folder, "test-U", sets=1)
    assert faults() == []
    (folder / "test2" / "test2-0-0-img0.png").unlink()
    assert "test-U: 1 of 4 images absent" in faults()[0]
    shutil.rmtree(folder / "test2")  # the clone brings the statements of a split whose images one need not have
    assert faults() == []
    (folder / DATA / "test2.json").write_text('{"identifier": "test2-0-0-0"}')
    assert "has no field 'label'" in faults()[0]
    (folder / DATA / "test1.json").unlink()
    assert "No NLVR2 test-P annotations" in faults()[0]


@pytest.mark.training
def test_an_odd_image_stops_the_run_and_is_named(
    folder: Path, spm: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (folder / "dev" / "dev-1-0-img1.png").unlink()
    out = tmp_path / "runs"
    arguments = ["run", "nlvr2", "--backbone", "multiway_nano", "--data", str(folder), "--out", str(out)]
    arguments += ["--tokenizer", str(spm), *[part for change in FAST for part in ("--set", change)]]
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("harness: ")
    assert "dev-1-0-img1.png is named in the annotations but absent" in error
    assert (out / "nlvr2" / "multiway_nano-seed0" / "checkpoints" / "final.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[1:], "1 missing: dev-0-0-0"),
        (lambda lines: [*lines, lines[2]], "1 duplicate: dev-0-1-0"),
        (lambda lines: [*lines, "dev-9-0-0,True"], "1 unknown: dev-9-0-0"),
        (lambda lines: ["dev-0-0-0,perhaps", *lines[1:]], "line 1 is not of the form identifier,True"),
    ],
)
def test_predictions_that_do_not_fit_are_told(folder: Path, tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(change([f"{sample.id},False" for sample in ADAPTER.samples(folder, "dev")])))
    with pytest.raises(InputError, match=message):
        harness.score("nlvr2", path, data=folder)
