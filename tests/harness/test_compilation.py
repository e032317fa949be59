"""Trainings by torch.compile, whose graphs are traced here and run as they are: no compiler is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._dynamo import utils

from harness import compilation
from harness.experiment import plan
from harness.training import fine_tune
from tests.conftest import FAST


@pytest.mark.training
def test_a_compiled_training_ends_with_the_same_weights(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    states = []
    for number, changes in enumerate(((), ("compile=true", "checkpoint_activations=true"))):
        run = plan(
            "imagenet", backbone="multiway_nano+layers=3", weights="none", data=colours, out=tmp_path,
            changes=(*FAST, "precision=fp32", "drop_path=0.2", "ema_decay=0.5", *changes),
        )  # fmt: skip
        model = run.build_model()
        items = run.adapter.train_set(run.samples("train"), run.context)
        before = utils.counters["stats"]["unique_graphs"]
        fine_tune(model, items, run.recipe, folder=tmp_path / str(number), seed=0, log=())
        states.append(model.state_dict())
        graphs = utils.counters["stats"]["unique_graphs"] - before
    assert 1 <= graphs <= 4  # a few for all layers together
    apart = {name: (tensor - states[1][name]).abs().max().item() for name, tensor in states[0].items()}
    assert max(apart.values()) < 1e-5, max(apart, key=apart.get)
    compiled, model = graphs, model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, 16, 16))
    assert utils.counters["stats"]["unique_graphs"] - before == compiled  # predictions are as ever
