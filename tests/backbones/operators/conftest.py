from __future__ import annotations

import pytest
import torch

from backbones import operators


@pytest.fixture(autouse=True, scope="session")
def ours() -> None:
    """The operators that mmcv calls in these tests are ours."""
    if not operators.provide():
        pytest.skip("a full mmcv is installed, with operators of its own")


@pytest.fixture(params=["cpu", "cuda"])
def where(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return torch.device(request.param)
