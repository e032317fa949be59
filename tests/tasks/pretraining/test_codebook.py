from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.errors import UsageError
from backbones.noise import Share, sharing
from tasks.pretraining.codebook import Codebook


def vectors(batch: int = 4, patches: int = 16, dim: int = 8, *, seed: int = 0) -> Tensor:
    return torch.randn(batch, patches, dim, generator=torch.Generator().manual_seed(seed))


def started(codes: int = 10, **options: float) -> Codebook:
    torch.manual_seed(0)
    codebook = Codebook(codes, 8, **options).train()
    codebook(vectors(seed=99))
    codebook.usage()
    return codebook


def official_step(weight: Tensor, z: Tensor, decay: float) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, commitment and moved weights, written from the equations of VQ-KD with one-hot matrices."""
    z = z / z.norm(dim=-1, keepdim=True)
    flat = z.reshape(-1, z.shape[-1])
    distance = ((flat[:, None] - weight[None]) ** 2).sum(-1)
    chosen = distance.argmin(1)
    one_hot = torch.eye(len(weight), dtype=z.dtype)[chosen]
    count = one_hot.sum(0)
    mean = (one_hot.T @ flat) / count.clamp(min=1)[:, None]
    mean = torch.where(count[:, None] > 0, mean / mean.norm(dim=1, keepdim=True).clamp(min=1e-12), weight)
    moved = decay * weight + (1 - decay) * mean
    commitment = ((flat - weight[chosen]) ** 2).mean()
    return chosen.view(z.shape[:-1]), commitment, moved / moved.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("decay", [0.99, 0.5])
def test_a_training_step_is_that_of_the_equations(decay: float) -> None:
    codebook = started(decay=decay)
    for seed in range(3):
        z = vectors(seed=seed)
        codes, commitment, moved = official_step(codebook.weight.double(), z.double(), decay)
        quantised = codebook(z)
        assert torch.equal(quantised.codes, codes)
        assert quantised.commitment.item() == pytest.approx(commitment.item(), rel=1e-5)
        assert torch.allclose(codebook.weight.double(), moved, atol=1e-6)


def test_codes_have_length_one_and_the_vectors_are_theirs() -> None:
    codebook = started()
    before = codebook.weight.clone()
    quantised = codebook(vectors())
    assert torch.allclose(quantised.vectors, before[quantised.codes], atol=1e-6)
    assert torch.allclose(codebook.weight.norm(dim=1), torch.ones(10))


def test_gradients_pass_through_to_the_encoder() -> None:
    """Straight-through: the gradient at the codes, projected by the normalisation, and never one for the codebook."""
    codebook = started()
    z = vectors().requires_grad_()
    towards = vectors(seed=5)
    (codebook(z).vectors * towards).sum().backward()
    other = z.detach().clone().requires_grad_()
    (F.normalize(other, dim=-1) * towards).sum().backward()
    assert torch.allclose(z.grad, other.grad, atol=1e-6)
    assert not list(codebook.parameters())


def test_an_evaluated_codebook_never_moves() -> None:
    codebook = started().eval()
    before = {name: tensor.clone() for name, tensor in codebook.state_dict().items()}
    for seed in range(3):
        codebook(vectors(seed=seed))
    assert all(torch.equal(before[name], tensor) for name, tensor in codebook.state_dict().items())
    codebook.train()
    with torch.no_grad():
        codebook(vectors())
    assert not torch.equal(before["weight"], codebook.weight)  # in training it does, without gradients too


def test_it_begins_with_clusters_of_the_first_batch() -> None:
    codebook = Codebook(4, 8).train()
    directions = torch.eye(8)[:4]
    z = F.normalize(directions.repeat(8, 1) + 0.01 * vectors(1, 32)[0], dim=-1)[None]
    assert not codebook.started
    codebook(z)
    assert codebook.started
    assert ((codebook.weight @ directions.T).max(0).values > 0.99).all()
    assert codebook.hits.sum().item() == pytest.approx(32)


def test_a_first_batch_with_fewer_patches_than_codes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"64 patches, and the codebook 65 codes.*--set codes"):
        Codebook(65, 8).train()(vectors())


def collapsed(codebook: Codebook, steps: int) -> Tensor:
    """Hits of each code at the end, after steps with vectors of half of the directions."""
    for step in range(steps):
        with sharing(Share(seed=(1, step), first=0, count=4, batch=4)):
            codebook(vectors(seed=step).abs())
    codebook.usage()
    codebook(vectors(seed=1000, batch=64).abs())
    return torch.bincount(codebook(vectors(seed=1001, batch=64).abs()).codes.flatten(), minlength=10)


def test_dead_codes_begin_again_where_there_are_vectors() -> None:
    assert (collapsed(started(decay=0.9), 60) == 0).sum() >= 3
    assert (collapsed(started(decay=0.9, revive_below=0.1), 60) == 0).sum() == 0


def test_a_revived_code_has_new_averages() -> None:
    """Otherwise the next step would find it dead again, or the old average would take its place back."""
    codebook = started(decay=0.9, revive_below=0.1)
    codebook.hits[3] = 0
    codebook.weight[3] = -F.normalize(vectors().flatten(0, 1).mean(0), dim=0)
    codebook(vectors())
    taken = codebook.weight[3].clone()
    assert (F.normalize(vectors(), dim=-1).flatten(0, 1) - taken).norm(dim=1).min() < 1e-6
    assert codebook.hits[3].item() == pytest.approx(64 / 10)
    codebook(vectors())
    assert (codebook.weight[3] @ taken).item() > 0.9


def test_revival_is_a_function_of_the_step() -> None:
    runs = []
    for step in (4, 4, 5):
        codebook = started(decay=0.9, revive_below=0.1)
        codebook.hits[:] = 0
        torch.manual_seed(len(runs))  # the generator's state does not count
        with sharing(Share(seed=(0, step), first=0, count=4, batch=4)):
            codebook(vectors())
        runs.append(codebook.weight.clone())
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_usage_counts_since_the_last_call() -> None:
    codebook = started()
    codebook.eval()(vectors())
    assert codebook.usage() == {"code_usage": 0.0, "code_perplexity": 1.0}  # evaluation does not count
    codebook.train()
    codes = codebook(vectors()).codes
    share = torch.bincount(codes.flatten(), minlength=10) / 64
    found = codebook.usage()
    assert found["code_usage"] == pytest.approx((share > 0).float().mean().item())
    entropy = -sum(p * math.log(p) for p in share.tolist() if p)
    assert found["code_perplexity"] == pytest.approx(math.exp(entropy), rel=1e-5)


def test_half_precision_around_it_changes_no_code() -> None:
    codebook = started(codes=60).eval()
    z = vectors(batch=32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = codebook(z)
    assert torch.equal(inside.codes, codebook(z).codes)
    assert inside.vectors.dtype == torch.float32
