from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from backbones import InputError, operators
from tests.conftest import REPOSITORY


def run(code: str) -> str:
    """Output of a Python process that has imported nothing."""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.spawn
def test_mmdet_and_mmseg_import() -> None:
    code = """
import time
from backbones import operators
assert not operators.compiled()
assert operators.provide() and operators.provide()
began = time.perf_counter()
import mmcv, mmcv.ops, mmdet.models, mmseg.models
print(f"{time.perf_counter() - began:.1f} s")
assert mmcv._ext.nms and not operators.compiled()

import importlib.util, pkgutil
from mmcv.utils import ext_loader
from mmengine.utils.dl_utils import mmcv_full_available
assert importlib.util.find_spec("mmcv._ext") is not None
assert not ext_loader.check_ops_exist() and not mmcv_full_available()
"""
    print(run(code))


def test_nothing_heavy_is_imported_before_it_is_asked_for() -> None:
    run("import sys, backbones.operators; assert not {'torch', 'mmcv'} & set(sys.modules)")


@pytest.mark.spawn
def test_a_full_mmcv_is_left_alone() -> None:
    code = """
from tests.support import compiled_mmcv

compiled_mmcv.provide()
from backbones import operators
assert operators.compiled()
assert not operators.provide()
import mmcv.ops
from mmcv.ops import multi_scale_deform_attn
assert mmcv._ext.nms() == "compiled"
assert not operators.provide()
assert multi_scale_deform_attn.multi_scale_deformable_attn_pytorch.__module__ == multi_scale_deform_attn.__name__
"""
    run(code)


@pytest.mark.skipif(operators.compiled(), reason="a full mmcv is installed, with operators of its own")
def test_other_operators_say_that_they_are_absent() -> None:
    import torch

    operators.provide()
    from mmcv import ops

    with pytest.raises(InputError, match=r"operator softmax_focal_loss_forward is not there.*install the full mmcv"):
        ops.softmax_focal_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))
    module = sys.modules["mmcv._ext"]
    assert hasattr(module, "nms_rotated")
    assert not hasattr(module, "__path__")  # which would make it a package
    assert importlib.util.find_spec("mmcv._ext") is module.__spec__
