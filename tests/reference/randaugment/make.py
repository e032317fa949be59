"""Compute the reference of `tests/tasks/common/test_rand_augment.py` with the official operations.

    python -m tests.reference.randaugment.make CHECKOUT

CHECKOUT is a clone of microsoft/unilm (768a3c87 was used). Writes `operations.npz` beside this file: `image`, and what
each operation of the official fine-tuning makes of it, as `<operation> <level> <sign of its argument>`. AutoContrast
has `stretchable`, whose darkest value is 0 in each channel; `AutoContrast of image` is its result where it is not.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
HEIGHT, WIDTH = 24, 32
LEVELS = (6, 7, 8)  # 7 is that of the fine-tuning
WITHOUT_LEVEL = ("AutoContrast", "Equalize")
ENHANCING = ("Brightness", "Sharpness")
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")


def main(checkout: Path) -> None:
    spec = importlib.util.spec_from_file_location("randaug", checkout / "beit3" / "randaug.py")
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)
    image = _image()
    stretchable = image - image.min((0, 1))
    found = {"image": image, "stretchable": stretchable}
    for name in WITHOUT_LEVEL:
        found[f"{name} 7 +"] = official.func_dict[name](stretchable if name == "AutoContrast" else image)
    found["AutoContrast of image"] = official.func_dict["AutoContrast"](image)
    for name in (*ENHANCING, *GEOMETRIC):
        for level in LEVELS:
            for sign in "+-" if name in GEOMETRIC else "+":
                argument, *fill = official.arg_dict[name](level)
                argument = -abs(argument) if sign == "-" else abs(argument)
                found[f"{name} {level} {sign}"] = official.func_dict[name](image, argument, *fill)
    np.savez_compressed(HERE / "operations.npz", **found)


def _image() -> np.ndarray:
    """Smooth blobs from 40 to 190, so that nothing overflows in Sharpness."""
    coarse = np.random.default_rng(0).uniform(40, 190, (5, 7, 3)).astype(np.uint8)
    return np.array(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
