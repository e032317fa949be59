from __future__ import annotations

from pathlib import Path

import pytest

from backbones.errors import InputError
from tasks.captioning import java, spice
from tasks.captioning.metrics import Captions, measure
from tests.tasks.captioning.conftest import FakeJava

CAPTIONS = Captions(("a cat", "", "a red bus"), (("the cat", "cats"), ("a dog",), ("bus",)))

# Scores an image by the number of its references; checks what the program is given.
SCORER = """
arguments = sys.argv[sys.argv.index("edu.anu.spice.SpiceScorer"):]
assert "-cache" not in arguments and "-Xmx8G" in sys.argv
images = json.load(open(arguments[1]))
scores = [
    {"image_id": image["image_id"], "scores": {"All": {"f": len(image["refs"]) / 4 if image["test"] else 0.0}}}
    for image in reversed(images)
]
print("Parsing reference captions", file=sys.stderr)
json.dump(scores, open(arguments[arguments.index("-out") + 1], "w"))
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of pycocoevalcap's spice/lib that has the parser."""
    folder = tmp_path / "package" / "spice" / "lib"
    folder.mkdir(parents=True)
    for name in spice.PARSER:
        (folder / name).touch()
    monkeypatch.setattr(java, "package", lambda: tmp_path / "package")
    return folder


def test_without_the_parser(library: Path, no_java: None) -> None:
    (library / spice.PARSER[1]).unlink()
    (measurement,) = measure(CAPTIONS, metrics=["SPICE"])
    assert measurement.samples == 3
    assert measurement.value != measurement.value
    assert "stanford-corenlp-3.6.0-models.jar" in measurement.unavailable
    assert "stanford-corenlp-3.6.0.jar" not in measurement.unavailable  # that one is there
    assert str(library) in measurement.unavailable


def test_scores_are_found_by_image(library: Path, fake_java: FakeJava) -> None:
    fake_java(SCORER, version="1.8.0_401")
    before = sorted(path for path in library.parent.rglob("*"))
    (measurement,) = measure(CAPTIONS, metrics=["SPICE"])
    assert not measurement.unavailable
    assert measurement.value == pytest.approx(100 * (0.5 + 0 + 0.25) / 3)
    assert measurement.at([0, 1, 1]) == pytest.approx(100 * 0.25 / 2)
    assert sorted(path for path in library.parent.rglob("*")) == before


def test_a_java_without_javascript(library: Path, fake_java: FakeJava) -> None:
    fake_java(SCORER, version="17.0.1")
    (measurement,) = measure(CAPTIONS, metrics=["SPICE"])
    assert "up to version 14" in measurement.unavailable
    (library / "nashorn-core-15.4.jar").touch()  # the engine, as a jar of its own
    (measurement,) = measure(CAPTIONS, metrics=["SPICE"])
    assert not measurement.unavailable


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "wrote no score for each image .*FileNotFoundError"),
        ("open('scores.json', 'w').write('[{')", "wrote no score for each image .*JSONDecodeError"),
        ("open('scores.json', 'w').write('[]')", "wrote no score for each image .*KeyError"),
        ("open('scores.json', 'w').write('{\"a\": 1}')", "wrote no score for each image .*TypeError"),
        ("print('java.lang.OutOfMemoryError', file=sys.stderr); sys.exit(1)", "status 1: java.lang.OutOfMemoryError"),
    ],
)
def test_a_run_that_fails(library: Path, fake_java: FakeJava, body: str, says: str) -> None:
    fake_java(body, version="1.8.0_401")
    with pytest.raises(InputError, match=f"^SPICE .*{says}"):
        measure(CAPTIONS, metrics=["SPICE"])
