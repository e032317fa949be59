"""Opening and preparing images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import nn
from torch.utils.data import Dataset
from torchvision import transforms

from backbones.errors import InputError
from tasks.common import shards
from tasks.common.image_files import FORMATS, UNDECODABLE, require_regular, require_size

if TYPE_CHECKING:
    from tasks.common.dense_recipe import DenseRecipe

# For ImageNet classification; every other BEiT-3 task has 0.5 for all channels.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
BICUBIC = transforms.InterpolationMode.BICUBIC


def open_image(path: Path, *, upright: bool = False) -> Image.Image:
    """An RGB image, fully decoded.

    Args:
        path: of a file, or of a place in a shard (`tasks.common.shards`).
        upright: turn it as the file's EXIF orientation says. detectron2, MMDetection and MMSegmentation do so; the
            official loaders of BEiT-3's other tasks and of ImageNet (torchvision's) take the pixels as they are stored.

    Raises:
        InputError: the file is absent, not an image, or truncated.
    """
    with _opened(path) as image:
        return (ImageOps.exif_transpose(image) if upright else image).convert("RGB")


def image_size(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Width and height in pixels, without decoding the image; `upright` as in `open_image`.

    Raises:
        InputError: the file is absent or not an image.
    """
    with _opened(path) as image:
        turned = upright and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)  # by a quarter
        return image.size[::-1] if turned else image.size


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(_file(path), formats=FORMATS) as image:
            require_size(image)
            yield image
    except FileNotFoundError:
        raise InputError(
            f"Image {path} is named in the annotations but absent. Restore it, or point --data at the "
            "folder that has it."
        ) from None
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that can be read. Replace it with the original file.") from None
    except UNDECODABLE as error:
        raise InputError(f"Image {path} cannot be decoded ({error}). Replace it with the original file.") from error


def _file(path: Path) -> Path | io.BytesIO:
    """An image's file, or its bytes where it is in a shard."""
    if inside := shards.place_of(path):
        shard, offset, size = inside
        return io.BytesIO(shards.content(shard, offset=offset, size=size))
    require_regular(path)
    return path


def center_crop(size: int, *, crop_pct: float, mean: Sequence[float], std: Sequence[float]) -> Callable:
    """Transform for evaluation on ImageNet: shorter side to size / crop_pct (bicubic), centre crop, normalise.

    Image -> float [3, size, size].
    """
    return transforms.Compose(
        [
            transforms.Resize(int(size / crop_pct), interpolation=BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def square(size: int) -> Callable:
    """Transform for evaluation on every task with text: the whole image to size × size (bicubic), mean and std 0.5.

    Image -> float [3, size, size].
    """
    return transforms.Compose(
        [
            transforms.Resize((size, size), interpolation=BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(HALF, HALF),
        ]
    )


# The operations of the official RandomAugment, which shifts by at most 10 pixels and fills with grey.
RAND_AUGMENT = (
    "AutoContrast", "Equalize", "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate",
)  # fmt: skip


def augmented(size: int, *, rand_augment: bool, flip: bool = True) -> Callable:
    """Transform for training on every task with text: a crop of at least half the area, a flip, RandAugment.

    Image -> float [3, size, size], with mean and std 0.5.

    RandAugment is N = 2, M = 7, each of the nine operations and the identity with probability 0.5, as in the
    official code (beit3/randaug.py). Its operations are OpenCV's there and Pillow's (timm) here: shears and rotations
    differ by half a pixel, and two overflows of the official code are left out (a channel whose darkest value is not 0
    becomes white in AutoContrast, and values above 255 turn dark in Sharpness).
    """
    steps = [transforms.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=BICUBIC)]
    if flip:
        steps.append(transforms.RandomHorizontalFlip())
    if rand_augment:
        steps.append(_rand_augment())
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(HALF, HALF)])


def _rand_augment() -> Callable:
    from timm.data.auto_augment import AugmentOp, RandAugment

    options = {"translate_const": 10, "img_mean": (128, 128, 128), "interpolation": Image.Resampling.BILINEAR}
    operations = [AugmentOp(name, prob=0.5, magnitude=7, hparams=options) for name in RAND_AUGMENT]
    return RandAugment([*operations, _identity], num_layers=2)


def _identity(image: Image.Image) -> Image.Image:
    return image


def pixel_statistics(backbone: nn.Module, recipe: DenseRecipe) -> dict[str, list[float]]:
    """The `mean` and `std` by which a dense model normalises pixels of 0 to 255: the recipe's, else the backbone's."""
    chosen = {"mean": recipe.pixel_mean or backbone.pixel_mean, "std": recipe.pixel_std or backbone.pixel_std}
    return {name: [255 * value for value in values] for name, values in chosen.items()}


class ImageDataset(Dataset):
    """Items {"image": float [3, size, size], **fields of the sample}."""

    def __init__(self, paths: Sequence[Path], fields: Sequence[dict[str, Any]], transform: Callable) -> None:
        self._paths = paths
        self._fields = fields
        self._transform = transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image: torch.Tensor = self._transform(open_image(self._paths[index]))
        return {"image": image, **self._fields[index]}


def broken_images(paths: Iterable[Path]) -> list[str]:
    """Decode every image and return the reasons of those that cannot be decoded."""
    reasons = []
    for path in paths:
        try:
            open_image(path)
        except InputError as error:
            reasons.append(str(error))
    return reasons
