"""Gradients of the contrastive loss as one of several processes sees them: `python -m … FILE` under torchrun.

Every process takes its share of the same eight pairs; the first writes loss and averaged gradients.
"""

from __future__ import annotations

import sys

import torch
from mmengine.model import MMDistributedDataParallel
from torch import Tensor

from harness import distributed
from tasks.retrieval.model import DualEncoder
from tests.backbones.test_multiway import pair, small

PAIRS = 8


def gradients() -> dict[str, Tensor]:
    """The loss, and the gradient of every trained parameter."""
    model = DualEncoder(small()).train()
    images, texts = pair(PAIRS)
    each = PAIRS // distributed.world_size()
    share = slice(distributed.rank() * each, (distributed.rank() + 1) * each)
    wrapped = model
    if distributed.world_size() > 1:
        wrapped = MMDistributedDataParallel(module=model, find_unused_parameters=True)
    loss = wrapped(images[share], texts[share], mode="loss")["loss"]
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"loss": loss.detach(), **found}


if __name__ == "__main__":
    distributed.start()
    found = gradients()
    losses = [torch.empty(()) for _ in range(distributed.world_size())]
    torch.distributed.all_gather(losses, found["loss"])
    if distributed.rank() == 0:
        torch.save(found | {"losses": torch.stack(losses)}, sys.argv[1])
    distributed.end()
