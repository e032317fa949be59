"""Location of the tests' data, and small data sets that they share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.support.spm import train

if TYPE_CHECKING:
    from tests.support.meteor import KeptMeteor

TESTS = Path(__file__).parent
REPOSITORY = TESTS.parent
COST_OF_FIXTURE = {
    "truth": "truth",
    "plain": "training",
    "tuned": "training",
    "validated": "training",
    "whole": "training",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by cost where a fixture or the folder shows it; the others carry their marks themselves."""
    for item in items:
        for fixture in COST_OF_FIXTURE.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(COST_OF_FIXTURE[fixture])
        if item.path.is_relative_to(TESTS / "benchmarks"):
            item.add_marker("benchmark")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread per process, since tests run side by side and tiny products gain nothing from more.

    PyTorch is not imported for tests that do without it.
    """
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    if torch:
        torch.set_num_threads(1)
    yield
    if before is not None:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Tensors that the official implementation computed; `MULTIWAY_REFERENCE` names another folder of the form."""
    return Path(os.environ.get("MULTIWAY_REFERENCE", TESTS / "reference" / "official"))


@pytest.fixture(scope="session")
def reference_meta(reference: Path) -> dict:
    return json.loads((reference / "meta.json").read_text())


@pytest.fixture(scope="session")
def truth() -> Path:
    """Real predictions and photographs with known scores; `MULTIWAY_TRUTH` names another folder of the form."""
    folder = Path(os.environ.get("MULTIWAY_TRUTH", REPOSITORY.parent / "shared" / "truth"))
    if not folder.is_dir():
        pytest.skip(f"no real scoring data: {folder} is absent and MULTIWAY_TRUTH names no other folder")
    return folder


def draw_folders(root: Path, *, train: int, val: int, classes: int = 3) -> Path:
    """An ImageFolder data set that is learnt in a few steps: the class is the brightest channel."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            label = number % classes
            pixels = rng.integers(0, 120, (24, 30, 3))
            pixels[..., label] += 120
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:04d}.JPEG")
    return root


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training and 13 validation images of three classes. Read only."""
    return draw_folders(tmp_path_factory.mktemp("colours"), train=24, val=13)


@pytest.fixture(scope="session")
def spm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that fits `multiway_nano` and can spell every text. Read only."""
    return train(tmp_path_factory.mktemp("spm") / "nano.spm", pieces=2046)


@pytest.fixture(scope="session")
def meteor_process() -> Iterator[KeptMeteor]:
    """METEOR of this test process, started when it is first asked for."""
    from tests.support.meteor import KeptMeteor

    kept = KeptMeteor()
    yield kept
    kept.close()


@pytest.fixture
def kept_meteor(meteor_process: KeptMeteor, monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR of this process is started once, for tests that are not about its start."""
    from tasks.captioning import java

    monkeypatch.setattr(java, "running", meteor_process.running)


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals from 20 bootstrap draws, for tests of values: 1,000 draws of box and mask AP take seconds."""
    from tasks import bootstrap

    monkeypatch.setitem(bootstrap.replicates.__kwdefaults__, "resamples", 20)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that items of tasks with text have opened, from here on."""
    from tasks.common import dataset

    opened: list[Path] = []
    open_image = dataset.open_image
    monkeypatch.setattr(dataset, "open_image", lambda path: opened.append(path) or open_image(path))
    return opened


# Makes the smallest backbone train in seconds: four patches, one loader-less process.
FAST = ("image_size=16", "batch_size=8", "micro_batch=4", "epochs=2", "warmup_epochs=1", "workers=0")
