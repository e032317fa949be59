from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import backbones
from backbones import weights
from backbones.multiway import Multiway
from tasks.reasoning.model import Reasoner
from tests.backbones.test_multiway import SMALL, TOLERANCE, official_config, small
from tests.support import official


def test_logits_equal_the_official_ones(reference: Path, reference_meta: dict) -> None:
    model = Reasoner(Multiway(official_config(reference_meta))).eval()
    report = weights.load(model, reference / "visual_reasoning.weights.safetensors")
    assert report.ignored == report.fresh == ()
    io = load_file(reference / "visual_reasoning.io.safetensors")
    logits = io.pop("logits")
    names = {"text_ids": "text"}
    with torch.no_grad():
        assert (model(**{names.get(name, name): value for name, value in io.items()}) - logits).abs().max() <= TOLERANCE


@pytest.mark.parametrize(("size", "count"), [("base", 225_719_810), ("large", 681_109_506)])
def test_parameter_counts(size: str, count: int) -> None:
    with torch.device("meta"):
        model = Reasoner(backbones.build(f"beit3_{size}_patch16_224"))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_an_official_checkpoint_loads_whole(tmp_path: Path) -> None:
    dim = SMALL.dim
    head = official.norm("head.norm1", 4 * dim) | official.linear("head.dense1", 4 * dim, 2 * dim)
    head |= official.norm("head.norm2", 2 * dim) | official.linear("head.dense2", 2 * dim, 2)
    state = official.write(tmp_path / "tuned.pth", official.trunk(SMALL, final_norm=True) | head)
    model = Reasoner(small())
    report = weights.load(model, tmp_path / "tuned.pth")
    assert (report.loaded, report.fresh, report.ignored) == (len(state), (), ())
    assert torch.equal(model.state_dict()["head.dense1.weight"], state["head.dense1.weight"])


@pytest.mark.slow
def test_the_loss_pulls_towards_the_labels(folder: Path) -> None:
    torch.manual_seed(0)
    model = Reasoner(small())
    batch = {
        "image_a": torch.randn(4, 3, 32, 32),
        "image_b": torch.randn(4, 3, 32, 32),
        "text": torch.randint(3, 50, (4, 5)),
    }
    label = torch.tensor([0, 1, 1, 0])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        model(**batch, label=label, mode="loss")["loss"].backward()
        optimizer.step()
    records = model(**batch, mode="predict")
    assert [record["label"] for record in records] == label.tolist()
    assert all((record["margin"] > 0) == bool(record["label"]) for record in records)
    # Left and right are told apart.
    swapped = dict(batch, image_a=batch["image_b"], image_b=batch["image_a"])
    assert model(**swapped, mode="predict") != records
