from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from backbones import operators
from backbones.deformable import DeformableAttention
from tests.conftest import REPOSITORY

GRIDS = [(6, 4), (3, 2), (1, 5)]
CELLS = sum(rows * columns for rows, columns in GRIDS)


def pair() -> tuple[DeformableAttention, torch.nn.Module]:
    """Ours and mmcv's with the same weights, whose queries look at points of their own."""
    operators.provide()
    from mmcv.ops import MultiScaleDeformableAttention

    torch.manual_seed(0)
    ours = DeformableAttention(32, heads=4, levels=3, points=4, value_ratio=0.5)
    theirs = MultiScaleDeformableAttention(32, 4, 3, 4, dropout=0.0, batch_first=True, value_proj_ratio=0.5)
    assert torch.equal(ours.sampling_offsets.bias, theirs.sampling_offsets.bias)  # the same initial directions
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.5)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def inputs() -> dict[str, torch.Tensor]:
    return {
        "query": torch.randn(2, 7, 32), "value": torch.randn(2, CELLS, 32), "references": torch.rand(1, 7, 1, 2),
    }  # fmt: skip


def test_it_is_mmcvs_module_with_sizes_as_numbers() -> None:
    ours, theirs = pair()
    given = inputs()
    expected = theirs(
        given["query"],
        value=given["value"],
        identity=torch.zeros(()),
        reference_points=given["references"].expand(2, -1, 3, -1),
        spatial_shapes=torch.tensor(GRIDS),
        level_start_index=torch.tensor([0, 24, 30]),
    )
    torch.testing.assert_close(ours(**given, grids=GRIDS), expected, rtol=1e-5, atol=1e-5)


def test_places_are_float32_in_mixed_precision() -> None:
    """On a map of 256 cells bfloat16 has steps of a cell: a query would read its neighbours."""
    attention = DeformableAttention(16, heads=2, levels=1, points=1)
    with torch.no_grad():
        attention.sampling_offsets.bias.zero_()
        attention.value_proj.weight.copy_(torch.eye(16))
        attention.output_proj.weight.copy_(torch.eye(16))
    value = torch.randn(1, 256, 16).bfloat16().float()
    references = torch.stack([(torch.arange(256) + 0.5) / 256, torch.full((256,), 0.5)], -1)[None, :, None]
    with torch.autocast("cpu", torch.bfloat16):
        found = attention(torch.zeros(1, 256, 16), value, references, [(1, 256)])
    torch.testing.assert_close(found.float(), value, rtol=1e-2, atol=1e-2)


def test_no_tensor_is_read_back_from_the_device() -> None:
    """Values of tensors that are not there cannot be asked for: what would make a GPU wait raises an error."""
    from backbones.vit_adapter import DeformableCross

    with torch.device("meta"):
        cross = DeformableCross(32, heads=4, levels=3)
        query, value = torch.randn(2, CELLS, 32), torch.randn(2, CELLS, 32)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("backbones.deformable.sampled", lambda value, *_: value.new_zeros(2, CELLS, 16))
            assert cross(query, value, GRIDS, GRIDS).shape == (2, CELLS, 32)


@pytest.mark.spawn
def test_a_compiled_operator_gets_float32() -> None:
    """mmcv's CUDA operator has no bfloat16, and converts the places to the type of the values."""
    code = """
import torch
from tests.support import compiled_mmcv

def forward(value, shapes, starts, locations, weights, im2col_step):
    assert {value.dtype, locations.dtype, weights.dtype} == {torch.float32}
    assert starts.tolist() == [0, 24, 30] and shapes.tolist() == [[6, 4], [3, 2], [1, 5]]
    from backbones.operators.deformable_attention import deformable_attention
    return deformable_attention(value, shapes, locations, weights)

def backward(value, shapes, starts, locations, weights, grad, by_value, *others, im2col_step):
    assert {value.dtype, grad.dtype, by_value.dtype} == {torch.float32}
    by_value.fill_(1)

compiled_mmcv.provide(ms_deform_attn_forward=forward, ms_deform_attn_backward=backward)
from backbones import deformable, operators
assert operators.compiled() and not operators.provide()
grids = [(6, 4), (3, 2), (1, 5)]
value = torch.randn(2, 35, 4, 8, dtype=torch.bfloat16, requires_grad=True)
locations, weights = torch.rand(2, 7, 4, 3, 4, 2), torch.rand(2, 7, 4, 3, 4)
with torch.autocast("cpu", torch.bfloat16):
    found = deformable.compiled(value, grids, locations, weights)
assert found.dtype == torch.bfloat16
expected = deformable.sampled(value, grids, locations, weights)
assert torch.equal(found, expected)
found.float().sum().backward()
assert value.grad.dtype == torch.bfloat16 and (value.grad == 1).all()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
