"""Where the tests' data lies, and small data sets that they share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.spm import train

TESTS = Path(__file__).parent
REPOSITORY = TESTS.parent


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


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that items of tasks with text have opened, from here on."""
    from tasks.items import samples

    opened: list[Path] = []
    open_image = samples.open_image
    monkeypatch.setattr(samples, "open_image", lambda path: opened.append(path) or open_image(path))
    return opened


# Makes the smallest backbone train in seconds: four patches, one loader-less process.
FAST = ("image_size=16", "batch_size=8", "micro_batch=4", "epochs=2", "warmup_epochs=1", "workers=0")
