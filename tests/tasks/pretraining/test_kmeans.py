from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tasks.pretraining import kmeans
from tasks.pretraining.kmeans import nearest, spherical_kmeans


def test_the_nearest_centre_is_that_of_the_largest_dot_product(monkeypatch) -> None:
    monkeypatch.setattr(kmeans, "CHUNK", 7)
    generator = torch.Generator().manual_seed(0)
    vectors, centres = torch.randn(30, 4, generator=generator), torch.randn(5, 4, generator=generator)
    assert torch.equal(nearest(vectors, centres), (vectors @ centres.T).argmax(1))


def test_distances_are_float32_under_autocast() -> None:
    """Two centres that bfloat16 cannot tell apart."""
    centres = torch.tensor([[1.0, 0.001], [1.0, 0.002]])
    vectors = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    with torch.autocast("cpu", torch.bfloat16):
        assert nearest(vectors, centres).tolist() == [1, 0]


def test_centres_are_the_mean_directions_of_their_vectors() -> None:
    vectors = F.normalize(torch.randn(300, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    found, counts = spherical_kmeans(vectors, 6, iterations=100, generator=torch.Generator().manual_seed(3))
    chosen = nearest(vectors, found)
    assert counts.tolist() == torch.bincount(chosen, minlength=6).tolist()
    for number in range(6):
        assert torch.allclose(found[number], F.normalize(vectors[chosen == number].mean(0), dim=0), atol=1e-5)


def test_iterations_bring_the_centres_closer() -> None:
    vectors = F.normalize(torch.randn(300, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    similarities = []
    for iterations in (0, 1, 3, 10):
        found, _ = spherical_kmeans(vectors, 6, iterations=iterations, generator=torch.Generator().manual_seed(3))
        similarities.append((vectors @ found.T).max(1).values.mean().item())
    assert similarities == sorted(similarities)
    assert similarities[-1] > similarities[0] + 0.02


def test_a_centre_without_vectors_takes_one_far_from_its_own() -> None:
    """Fewer directions than centres, and duplicates: some centres lose all their vectors at once."""
    vectors = torch.cat([torch.eye(3)[:1].repeat(50, 1), torch.eye(3)[1:]])
    found, counts = spherical_kmeans(vectors, 3, iterations=5, generator=torch.Generator().manual_seed(0))
    assert sorted(counts.tolist()) == [1.0, 1.0, 50.0]
    assert torch.allclose((found @ torch.eye(3)).max(0).values, torch.ones(3))


@pytest.mark.slow
def test_the_same_generator_gives_the_same_clusters() -> None:
    vectors = F.normalize(torch.randn(200, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    runs = [spherical_kmeans(vectors, 12, iterations=5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(runs[0][0], runs[1][0])
    assert not torch.equal(runs[0][0], runs[2][0])
