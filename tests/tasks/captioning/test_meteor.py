from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backbones.errors import InputError
from tasks.captioning import java, meteor
from tests.support.captions import cases
from tests.tasks.captioning.conftest import FakeJava

LINE = " ".join(["1.0"] * meteor.COLUMNS)


def test_the_formula_is_that_of_the_program(truth: Path, kept_meteor: None) -> None:
    """Scores of every image, of the corpus and of a bootstrap draw, against the program's own (EVAL)."""
    case = next(case for case in cases(truth).values() if case.tokenize and case.per_image)
    references = [*case.references, *case.references[:5]]
    candidates = [*case.candidates, *(texts[0] for texts in case.references[:5])]  # five equal a reference
    with meteor.started(candidates, references) as run:  # raw captions: METEOR splits them itself
        lines = run.output().splitlines()
        found = meteor.statistics(run, images=len(candidates))
    assert (meteor.score(found)[-5:] == 1).all()
    drawn = np.random.default_rng(0).integers(len(lines), size=len(lines))
    weights = np.bincount(drawn, minlength=len(lines))
    requests = [" ||| ".join(["EVAL", *lines]), " ||| ".join(["EVAL", *(lines[place] for place in drawn)])]
    jar = java.package() / "meteor" / "meteor-1.5.jar"
    arguments = ["-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    with java.running("METEOR", arguments, stdin="\n".join(requests) + "\n") as run:
        scores = np.array(run.output().split(), dtype=float)
    images, corpus, draw = scores[: len(lines)], scores[len(lines)], scores[-1]
    assert np.abs(meteor.score(found) - images).max() < 1e-12
    assert meteor.score(found.sum(0)) == pytest.approx(corpus, abs=1e-12)
    assert meteor.score(weights @ found) == pytest.approx(draw, abs=1e-12)


def test_what_equals_its_reference_has_no_chunk_in_a_sum(fake_java: FakeJava) -> None:
    same = "2.0 2.0 1.0 1.0 1.0 1.0 1.0 1.0 " + "0.0 " * 12 + "1.0 2.0 2.0"
    half = "2.0 4.0 1.0 2.0 1.0 1.0 1.0 1.0 " + "0.0 " * 12 + "1.0 2.0 2.0"
    fake_java(f"print({same!r}); print({half!r})")
    with meteor.started(["a cat", "a cat"], [["a cat"], ["a cat and a dog"]]) as run:
        found = meteor.statistics(run, images=2)
    assert found[:, meteor.CHUNKS].tolist() == [0, 1]
    assert meteor.score(found[0]) == 1
    assert meteor.score(found[1]) < 0.6


def test_requests(fake_java: FakeJava) -> None:
    fake_java("open('lines', 'w').write(sys.stdin.read())")
    with meteor.started(["a|||b  c\nd", ""], [["x ||| y", "z\rz"], ["w"]]) as run:
        run.output()
        lines = (run.folder / "lines").read_text()
    assert lines == "SCORE ||| x  y ||| z z ||| ab c d\nSCORE ||| w ||| \n"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (f"print({LINE!r})", "returned 1 lines for 2 images"),
        (f"print({LINE!r}); print('Error: specify hypothesis')", "returned 'Error: specify hypothesis' where 23"),
        (f"print({LINE!r}); print('1.0 2.0')", "returned '1.0 2.0' where 23 numbers were due"),
        ("print(sys.stdin.readline()); sys.stdout.flush(); os.kill(os.getpid(), 9)", "killed by signal 9"),
    ],
)
def test_an_answer_that_breaks_off(fake_java: FakeJava, body: str, says: str) -> None:
    fake_java(body)
    with pytest.raises(InputError, match=says), meteor.started(["a", "b"], [["a"], ["b"]]) as run:
        meteor.statistics(run, images=2)
