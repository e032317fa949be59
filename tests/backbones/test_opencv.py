"""OpenCV's stand-in, in processes of their own: an import happens once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backbones.packages import install_command
from tests.conftest import REPOSITORY

# As OpenCV's own start-up does, it changes sys.path before it loads its library.
BROKEN = """
import sys
sys.path.insert(0, "left behind")
raise ImportError("libGL.so.1: cannot open shared object file")
"""


def python(code: str, *, path: Path) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(path), str(REPOSITORY)))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def broken(folder: Path) -> Path:
    (folder / "cv2").mkdir()
    (folder / "cv2" / "__init__.py").write_text(BROKEN)
    return folder


@pytest.mark.spawn
def test_dense_heads_are_built_where_opencv_cannot_be_loaded(tmp_path: Path) -> None:
    code = """
import sys
from backbones import opencv, openmmlab
from mmdet.models import CascadeRCNN
from mmseg.models import EncoderDecoder
import cv2
cv2.setNumThreads(0)
print(opencv.reason())
assert "left behind" not in sys.path
assert isinstance(cv2.IMREAD_COLOR, int)
try:
    cv2.imread("picture.png")
except opencv.InputError as error:
    print(error)
"""
    first, second = python(code, path=broken(tmp_path)).splitlines()[-2:]
    assert first == "libGL.so.1: cannot open shared object file"
    command = install_command("opencv-python-headless", replacing=("opencv-python", "opencv-python-headless"))
    assert "imread" in second and second.endswith(f" {command}")


def test_doctor_finds_nothing_wrong_with_the_stand_in(tmp_path: Path) -> None:
    code = "from harness.doctor import _package; print(_package('cv2', 'dense tasks'))"
    found = python(code, path=broken(tmp_path))
    assert "ok=True" in found and "libGL.so.1" in found


def test_a_working_opencv_is_used_as_it_is(tmp_path: Path) -> None:
    code = """
import backbones, cv2
import numpy as np
from backbones import opencv
print(cv2.resize(np.eye(2, dtype=np.uint8), (4, 4), interpolation=cv2.INTER_NEAREST).sum(), repr(opencv.reason()))
"""
    assert python(code, path=tmp_path).split() == ["8", "''"]


def test_an_absent_opencv_is_absent(tmp_path: Path) -> None:
    code = """
import sys
import backbones
sys.path = [folder for folder in sys.path if "site-packages" not in folder]
try:
    import cv2
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert python(code, path=tmp_path).strip() == "cv2"
