"""Image files that are refused before they are decoded."""

from __future__ import annotations

import io
import os
import shutil
import stat
from pathlib import Path

import pytest
from PIL import Image

from backbones import InputError
from tasks.common.image_files import decoded
from tasks.common.images import image_size, open_image
from tasks.segmentation.label_maps import read_map

PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


def test_no_file_is_handed_to_an_interpreter_of_postscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    interpreter = tmp_path / "gs"
    interpreter.write_text(f"#!/bin/sh\ntouch {started}\n")
    interpreter.chmod(interpreter.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert shutil.which("gs") == str(interpreter)
    image = tmp_path / "000.JPEG"
    image.write_bytes(PROGRAM)
    with pytest.raises(InputError, match=r"000\.JPEG is not an image that can be read"):
        open_image(image)
    with pytest.raises(OSError, match="cannot identify"):
        decoded(PROGRAM)
    assert not started.exists()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "MPO"])
def test_raster_images_are_opened_whatever_their_names(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image.JPEG"
    Image.new("RGB", (7, 5), (200, 0, 0)).save(path, kind)
    assert open_image(path).size == image_size(path) == decoded(path.read_bytes()).size == (7, 5)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_pipes_and_folders_are_refused_and_not_waited_for(make: object, tmp_path: Path) -> None:
    make(tmp_path / "image.png")
    for read in (open_image, image_size, lambda path: read_map(path, classes=3, what=str(path))):
        with pytest.raises(InputError, match=r"image\.png cannot be decoded \(no regular file\)"):
            read(tmp_path / "image.png")


@pytest.mark.parametrize("size", [(12_000, 12_000), (1, 3_000), (30_000, 9)])
def test_sizes_are_looked_at_before_decoding(size: tuple[int, int], tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("1", size).save(content, "PNG")
    path = tmp_path / "image.png"
    path.write_bytes(content.getvalue()[:200])  # the pixels are not there: nothing may decode them
    for read in (open_image, image_size, lambda path: read_map(path, classes=3, what=str(path))):
        with pytest.raises(InputError, match=r"pixels: at most 134,217,728 are read"):
            read(path)
