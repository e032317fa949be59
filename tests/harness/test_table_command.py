"""`harness table`, `harness list tables` and `harness server-score`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import tasks
from harness.cli import main
from leaderboards import rows, tables
from leaderboards.rows import write
from tests.support.rows import of_run


def test_the_overview_is_printed_with_toy_rows_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")  # no cell is broken into lines
    write(tmp_path / "results.csv", [of_run("toy", n=500, value=29.8, low=26.4, high=34.2, backbone="multiway_nano")])
    assert main(["table", "overview", "--results", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "61.4 (FD-SwinV2) 62.8 (+1.4)" in text
    assert (
        "▸ multiway_nano imagenet val top1 29.80 (26.40–34.20) other data than the benchmark's, such as toy data"
        in text
    )
    for form, sign in (("markdown", "| --- |"), ("csv", "kind,"), ("html", "<table"), ("latex", "\\begin{tabular}")):
        assert main(["table", "overview", "--results", str(tmp_path), "--format", form]) == 0
        assert sign in capsys.readouterr().out
    assert main(["table", "overview", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 9


def test_a_terminal_shows_the_latest_of_many_results_that_stand_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    times = [f"2026-01-01T00:{at:02}:00+00:00" for at in range(60)]
    write(tmp_path / "results.csv", [of_run(t, n=500, backbone=f"model{t[14:16]}", started=t) for t in times])
    shown = {}
    for form in ("terminal", "csv"):
        assert main(["table", "overview", "--results", str(tmp_path), "--format", form]) == 0
        shown[form] = capsys.readouterr().out
    assert sorted(set(re.findall(r"model\d\d", shown["terminal"]))) == [f"model{at}" for at in range(10, 60)]
    assert "10 older ones are left out here; --format csv has them." in shown["terminal"]
    assert len(set(re.findall(r"model\d\d", shown["csv"]))) == 60


@pytest.mark.parametrize("name", tables.names())
def test_tables_fit_80_columns_without_breaking_a_word(
    name: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {}
    for width in (80, 1000):
        monkeypatch.setenv("COLUMNS", f"{width}")
        assert main(["table", name]) == 0
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= width
        words[width] = set(out.replace("─", "").split())
    parted = words[1000] - words[80]
    for word in parted:  # at hyphens
        assert "-" in word and all(any(part in one for one in words[80]) for part in re.findall(r"[^-]+-?", word))
    if name == "overview":
        assert parted == {"Vision-language", "(FD-SwinV2)", "(FD-CLIP)"}


def test_tables_are_listed(capsys: pytest.CaptureFixture) -> None:
    assert main(["list", "tables", "--json"]) == 0
    found = {entry["name"]: entry["published"] for entry in json.loads(capsys.readouterr().out)}
    assert found["ade20k"] == 13 and len([name for name in found if name.startswith("ablation")]) == 6


def test_a_declared_overlap_is_marked_in_the_row(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "val.jsonl"
    samples = tasks.get("imagenet").samples(colours, "val")
    records = [{"id": sample.id, "top": [0, 1, 2], "probability": [0.5, 0.3, 0.2]} for sample in samples]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    call = ["score", "imagenet", str(path), "--data", str(colours), "--json"]
    assert main([*call, "--trained-on", "imagenet:val"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert (row["trained_on"], row["leak"]) == ("imagenet:val", "the weights were trained on imagenet val")
    assert main(call) == 0
    assert json.loads(capsys.readouterr().out)[0]["leak"] == ""
    assert main([*call, "--trained-on", "imagenet"]) == 2


SERVER = ["server-score", "vqav2", "test-dev", "accuracy", "77.7", "--date", "2026-11-02", "--receipt", "submission 7"]


def test_a_servers_score_is_entered_once_and_shown_as_such(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    predictions = tmp_path / "test-dev.jsonl"
    predictions.write_text('{"id": "1", "answer": "yes"}\n')
    predictions.with_suffix(".json").write_text(json.dumps({"backbone": "nano", "run_id": "r", "released": ""}))
    call = [*SERVER, "--predictions", str(predictions), "--results", str(tmp_path / "results.csv")]
    assert main(call) == 0 and main(call) == 0
    (row,) = rows.read(tmp_path / "results.csv")
    assert (row.value, row.low, row.server) == (77.7, None, "EvalAI challenge 830")
    assert (row.receipt, row.backbone, row.run_id) == ("2026-11-02 submission 7", "nano", "r")
    capsys.readouterr()
    assert main(["table", "vision_language", "--results", str(tmp_path), "--format", "csv"]) == 0
    assert 'this harness,"nano, scored by EvalAI challenge 830",77.7' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({2: "val"}, "is public"),
        ({3: "acuracy"}, "Did you mean accuracy"),
        ({4: "101"}, "cannot be"),
        ({4: "nan"}, "cannot be"),
        ({6: "yesterday"}, "YYYY-MM-DD"),
    ],
)
def test_a_wrong_entry_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, changes: dict[int, str], message: str
) -> None:
    call = [changes.get(at, part) for at, part in enumerate(SERVER)]
    results = tmp_path / "results.csv"
    assert main([*call, "--predictions", str(tmp_path), "--results", str(results)]) == 2
    assert message in capsys.readouterr().err and not results.exists()
