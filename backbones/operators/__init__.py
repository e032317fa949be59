"""The operators of mmcv's compiled module `mmcv._ext`, in PyTorch and torchvision, for mmcv-lite.

mmcv-lite has the Python side of `mmcv.ops` but not the compiled one, which it imports by name; so do mmdet and mmseg,
through it. `provide()` puts a module of that name in its place, in which what their detectors and segmenters call is
computed, on every device, and every other operator says that it is absent when it is called:

    nms, softnms                                                   boxes.py
    roi_align_forward, roi_align_backward                          regions.py
    roi_pool_forward, roi_pool_backward                            regions.py
    sigmoid_focal_loss_forward, sigmoid_focal_loss_backward        focal_loss.py
    ms_deform_attn_forward, ms_deform_attn_backward                deformable_attention.py

Names, arguments and results are those of mmcv 2.1: most operators fill tensors that the caller made.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Never

from backbones.errors import InputError

NAME = "mmcv._ext"


class Operators(ModuleType):
    """`mmcv._ext` without a compiler: mmcv asks for some hundred operators by name when it is imported."""

    def __getattr__(self, name: str) -> Callable[..., Never]:
        if name.startswith("__"):  # what Python itself looks for in a module
            raise AttributeError(name)

        def absent(*_: object, **__: object) -> Never:
            raise InputError(
                f"mmcv's operator {name} is not there: mmcv-lite comes without compiled operators, and this project "
                "has only those that its own models use. Uninstall mmcv-lite and install the full mmcv, version 2.1, "
                "that was built for your version of PyTorch."
            )

        return absent


def compiled() -> bool:
    """Check that the installed mmcv has its own compiled operators."""
    return not isinstance(sys.modules.get(NAME), Operators) and importlib.util.find_spec(NAME) is not None


def provide() -> bool:
    """Make `mmcv.ops` importable with mmcv-lite; to be called before its first import, and again at will.

    Returns:
        Whether the operators are ours. A full mmcv stays as it is.
    """
    if compiled():
        return False
    if NAME not in sys.modules:
        _install()
    return True


def _install() -> None:
    import mmcv

    from backbones.operators import boxes, deformable_attention, focal_loss, regions

    module = Operators(NAME, __doc__)
    # No loader: whoever asks for a full mmcv (mmengine's mmcv_full_available) learns that there is none.
    module.__spec__ = ModuleSpec(NAME, loader=None)
    for operator in (
        boxes.nms,
        boxes.softnms,
        deformable_attention.ms_deform_attn_forward,
        deformable_attention.ms_deform_attn_backward,
        focal_loss.sigmoid_focal_loss_forward,
        focal_loss.sigmoid_focal_loss_backward,
        regions.roi_align_forward,
        regions.roi_align_backward,
        regions.roi_pool_forward,
        regions.roi_pool_backward,
    ):
        setattr(module, operator.__name__, operator)
    sys.modules[NAME] = mmcv._ext = module

    from mmcv.ops import multi_scale_deform_attn

    multi_scale_deform_attn.multi_scale_deformable_attn_pytorch = deformable_attention.deformable_attention
    # On a GPU mmcv's module would round the sampling locations to the type of the values: under bf16 by up to a quarter
    # of a cell where a map is 128 cells wide. Ours takes them as they are, on every device.
    multi_scale_deform_attn.IS_CUDA_AVAILABLE = False
