"""The checkpoint of a training: all of its state, replaced as a whole, and refused when it is of another form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel, ExponentialMovingAverage

from backbones import InputError
from harness import checkpoint
from harness.checkpoint import Progress, TrainingState
from harness.optim import ScaledOptimizer


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x)


def begun(*, ema: bool = True) -> TrainingState:
    model = Line()
    optimizer = ScaledOptimizer(
        torch.optim.AdamW(model.parameters(), lr=0.1), precision="fp16", device=torch.device("cpu")
    )
    return TrainingState(
        model=model, optimizer=optimizer, ema=ExponentialMovingAverage(model, momentum=0.5) if ema else None
    )


def step(state: TrainingState, number: int) -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(number))
    with state.optimizer.autocast():
        loss = state.model(x).square().mean()
    state.optimizer.backward(loss)
    state.optimizer.step()
    if state.ema:
        state.ema.update_parameters(state.model)


def tensors(state: TrainingState) -> list[torch.Tensor]:
    return [*state.model.state_dict().values(), *state.result.state_dict().values()]


@pytest.mark.parametrize("ema", [True, False])
def test_a_training_goes_on_from_its_checkpoint_to_the_bit(ema: bool, tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    assert checkpoint.read_progress(path) == Progress()
    whole = begun(ema=ema)
    for number in range(3):
        step(whole, number)
    progress = Progress(step=3, seconds=1.5, processes=2)
    checkpoint.save(path, whole, progress)
    assert checkpoint.read_progress(path) == progress
    torch.manual_seed(99)
    resumed = begun(ema=ema)
    assert not all(one.equal(two) for one, two in zip(tensors(whole), tensors(resumed), strict=True))
    checkpoint.load(path, resumed)
    for number in range(3, 6):
        step(whole, number)
        step(resumed, number)
    assert all(one.equal(two) for one, two in zip(tensors(whole), tensors(resumed), strict=True))
    assert whole.optimizer.state_dict()["loss_scale"] == resumed.optimizer.state_dict()["loss_scale"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, state = tmp_path / "last.pth", begun()
    checkpoint.save(path, state, Progress(step=1))
    before = path.read_bytes()

    def full(content: dict, file: Path) -> None:
        file.write_bytes(b"half")
        raise RuntimeError("unexpected pos 64 vs 0")  # as PyTorch says of a full disk

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match="Free some space"):
        checkpoint.save(path, state, Progress(step=2))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_of_another_form_is_refused(tmp_path: Path) -> None:
    """mmengine's Runner, which trained in earlier versions, stored the step elsewhere."""
    path = tmp_path / "last.pth"
    torch.save({"meta": {"iter": 7}, "state_dict": {}}, path)
    with pytest.raises(InputError, match=r"written by another version.*or remove the file"):
        checkpoint.read_progress(path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(InputError, match="written by another version"):
        checkpoint.read_progress(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="is damaged"):
        checkpoint.read_progress(path)


def test_it_is_saved_at_each_epochs_end_and_after_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: 1000.0)
    assert [number for number in range(1, 9) if checkpoint.due(number, every=4, saved=999.0)] == [4, 8]
    assert not checkpoint.due(3, every=4, saved=401.0)
    assert checkpoint.due(3, every=4, saved=399.0)
