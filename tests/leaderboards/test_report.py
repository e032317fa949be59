"""The report: one file, no network, no markup from a name; sorting and filtering in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from harness.cli import main
from leaderboards import report, results
from leaderboards.report import plots, runs
from leaderboards.report.plots import Curve, Dot, axis, curves, dots
from leaderboards.rows import write
from tests.leaderboards.test_rows import of_run

EVIL = "</script><script>alert(1)</script><b>x</b>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results and a run's folder with curves, classes, a picture and verdicts."""
    root = tmp_path_factory.mktemp("runs")
    rows = [of_run(f"run{at}", value=70.0 + at % 20, backbone=f"model-{at:03d}", seed=at) for at in range(300)]
    write(root / "results.csv", [*rows, of_run("evil", value=99.0, backbone=EVIL, note="=cmd()")])
    run = root / "imagenet" / "nano-seed0"
    (run / "checkpoints" / "log").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    lines = [json.dumps({"step": step, "loss": 5 / step}) for step in range(1, 900)]
    (run / "checkpoints" / "log" / "scalars.jsonl").write_text("\n".join([*lines, '{"step": 900, "lo']))
    (run / "validation.csv").write_text("step,epoch,split,metric,value\n1,1,val,top1,10\n2,2,val,top1,12.5\n3,3,val,to")
    (run / "classes.csv").write_text(
        f"split,metric,of,unit,value,low,high,n,note\nval,IoU,{EVIL},percent,1.234,1,2,7,\n"
    )
    (run / "pictures").mkdir()
    Image.new("RGB", (40, 20), "red").save(run / "pictures" / "a.png")
    columns = "model,task,split,metric,published,ours,difference,verdict,reason\n"
    verdict = f"{columns}BEiT-3,imagenet,val,top1,85.4,85.41,0.01,same digits,\n"
    (root / "verdicts-released.csv").write_text(verdict)
    return root


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert main(["report", str(path), "--results", str(folder), "--title", EVIL]) == 0
    return path


class Texts(HTMLParser):
    """Elements, addresses and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_one_file_without_a_network(page: Path) -> None:
    text = page.read_text()
    found = Texts(text)
    assert all(address.startswith(("#", "data:")) for address in found.addresses)
    assert "url(" not in text and "@import" not in text
    pictures = sum(len(part) for part in re.findall(r"data:image/png;base64,[^\"]*", text))
    assert len(text.encode()) - pictures < 300 * 1024


def test_a_name_that_looks_like_markup_stays_text(page: Path) -> None:
    found = Texts(page.read_text())
    assert found.elements.count("script") == 2 and "b" not in found.elements
    assert sum(EVIL in text for text in found.texts) >= 3  # the title, the heading, a class
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.S)[1])
    (row,) = [row for row in data["rows"] if row[data["columns"].index("run_id")] == "evil"]
    assert row[data["columns"].index("model")].startswith(EVIL)


def test_every_section_is_there(page: Path) -> None:
    text = page.read_text()
    for part in ("tables", "verdicts", "intervals", "runs", "rows", "provenance"):
        assert f'id="{part}"' in text and f'href="#{part}"' in text
    assert "61.4 (FD-SwinV2)" in text and "same digits" in text and "data:image/png" in text
    assert text.count("<svg") >= 3 and "training loss" in text


def test_a_run_that_was_killed_is_shown_as_far_as_it_goes(folder: Path) -> None:
    (run,) = runs.folders([folder], pictures=1)
    (loss,) = run.losses
    assert len(loss.points) < 400 and loss.points[-1] == (899.0, 5 / 899)
    assert run.validations[0].points == [(1.0, 10.0), (2.0, 12.5)]
    assert run.classes[0][3] == "1.23" and len(run.pictures) == 1
    assert runs.folders([folder], pictures=0)[0].pictures == []


def test_axes_hold_their_values_with_round_ticks() -> None:
    for low, high in ((0, 1), (85.37, 85.44), (-3, 250), (5, 5), (0, 0)):
        start, end, ticks = axis(low, high)
        assert start < low <= high < end and 2 <= len(ticks) <= 6
        assert all(start <= tick <= end for tick in ticks)


def test_plots_escape_labels_and_keep_to_their_width() -> None:
    drawn = dots("top1", "percent", [Dot(label=EVIL * 3, value=1, low=0, high=2), Dot(label="b", value=9, own=False)])
    assert "<b>" not in drawn and "…" in drawn and 'class="published"' in drawn
    places = [float(place) for place in re.findall(r'cx="([\d.]+)"', drawn)]
    assert all(plots.LEFT <= place <= plots.RIGHT for place in places) and places[0] < places[1]
    assert "<b>" not in curves("x", "step", [Curve(label=EVIL, points=[(0, 1), (1, 2)])])


PROBE = """
<script>
(() => {
  const found = {}, body = document.getElementById("body"), head = document.getElementById("head");
  const filter = document.getElementById("filter"), count = document.getElementById("count");
  const cells = (name) => [...body.rows].slice(1, -1).map((row) => row.cells[at(name)].textContent);
  const at = (name) => [...head.cells].findIndex((cell) => cell.textContent.startsWith(name));
  const press = (name) => head.cells[at(name)].firstChild.click();
  found.rows = body.rows.length;
  press("value"); found.falling = cells("value").map(Number);
  found.sort = head.cells[at("value")].getAttribute("aria-sort");
  press("value"); found.rising = cells("value").map(Number);
  filter.value = "model:model-00"; filter.dispatchEvent(new Event("input"));
  found.models = cells("model"); found.count = count.textContent;
  filter.value = "nothing at all"; filter.dispatchEvent(new Event("input")); found.none = count.textContent;
  found.sideways = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  found.width = document.documentElement.clientWidth;
  const out = document.createElement("pre"); out.id = "probe"; out.textContent = JSON.stringify(found);
  document.body.append(out);
})();
</script>
"""


def browse(page: Path, tmp_path: Path, width: int) -> tuple[dict, str]:
    """Open the page in a browser; returns what a script finds in it, and the browser's error output."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium here (Debian: apt-get install chromium)")
    copy = tmp_path / "probe.html"
    copy.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr", f"--window-size={width},900", "--dump-dom", copy.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-500:]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), done.stderr


@pytest.mark.spawn
@pytest.mark.parametrize("width", [1280, 390])
def test_sort_and_filter_work_in_a_browser_without_errors(page: Path, tmp_path: Path, width: int) -> None:
    found, errors = browse(page, tmp_path, width)
    assert "CONSOLE" not in errors
    assert found["sideways"] <= 0
    assert found["rows"] < 60  # of 301: only those in sight are in the document
    assert found["falling"] == sorted(found["falling"], reverse=True) and found["falling"][0] == 99
    assert found["rising"] == sorted(found["rising"]) and found["rising"][0] == 70
    assert found["sort"] == "descending"
    assert len(found["models"]) == 10 and all(name.startswith("model-00") for name in found["models"])
    assert (found["count"], found["none"]) == ("10 of 301 rows", "0 of 301 rows")


def test_a_damaged_file_is_named_in_the_page(tmp_path: Path) -> None:
    write(tmp_path / "results.csv", [of_run("a"), of_run("b")])
    (tmp_path / "results.csv").write_text((tmp_path / "results.csv").read_text().replace("85.4", "x<i>", 1))
    assert main(["report", str(tmp_path / "out.html"), "--results", str(tmp_path)]) == 1
    text = (tmp_path / "out.html").read_text()
    assert "1 of 2 rows were left out" in text and "x<i>" not in text


def test_an_empty_leaderboard_has_a_page(tmp_path: Path) -> None:
    write(tmp_path / "results.csv", [])
    frame = results.gather([tmp_path]).frame
    text = report.page(report.Sections(title="Empty", boards=[], frame=frame))
    assert "0 result rows" in text and isinstance(frame, pd.DataFrame)
