"""The checkpoint of a training: all of its state, replaced as a whole, and refused when it is of another form."""

from __future__ import annotations

from collections.abc import Callable
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
    names, parameters = zip(*model.named_parameters(), strict=True)
    group = {"params": list(parameters), "names": list(names)}
    optimizer = ScaledOptimizer(torch.optim.AdamW([group], lr=0.1), precision="fp16", device=torch.device("cpu"))
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
    with pytest.raises(InputError, match=r"last\.pth \(checkpoint\) cannot be read: .*Remove it"):
        checkpoint.read_progress(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after three steps. Read only."""
    path, state = tmp_path_factory.mktemp("whole") / "last.pth", begun()
    for number in range(3):
        step(state, number)
    checkpoint.save(path, state, Progress(step=3, run="mine"))
    return path


def changed(whole: Path, path: Path, change: Callable[[dict], object]) -> Path:
    content = torch.load(whole, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def resume(path: Path) -> None:
    if checkpoint.read_progress(path, run="mine", steps=9).step:
        checkpoint.load(path, begun())


def _transposed(content: dict) -> None:
    content["model"]["line.weight"] = content["model"]["line.weight"].T.contiguous()


def _other_moments(content: dict) -> None:
    next(iter(content["optimizer"]["state"].values()))["exp_avg"] = torch.zeros(5, 5)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["model"].clear(),
        lambda content: content["model"].popitem(),
        lambda content: content["model"].update(other=torch.zeros(2)),
        lambda content: content["model"]["line.weight"].fill_(float("nan")),
        lambda content: content.update(model=None),
        lambda content: content.pop("model"),
        lambda content: content.pop("optimizer"),
        lambda content: content.update(optimizer={}),
        lambda content: content["optimizer"]["param_groups"].clear(),
        lambda content: content.update(ema=None),
        lambda content: content["ema"].popitem(),
        lambda content: content["progress"].pop("step"),
        lambda content: content["progress"].update(step=10),
        lambda content: content["progress"].update(step=-1),
        lambda content: content["progress"].update(step=0),
        lambda content: content["progress"].update(step="3"),
        lambda content: content["progress"].update(step=True),
        lambda content: content["progress"].update(seconds="long"),
        lambda content: content["progress"].update(package="0.0.1"),
        lambda content: content["progress"].update(run="another"),
        _transposed,
        _other_moments,
    ],
)
def test_a_checkpoint_that_is_not_all_of_this_training_is_refused(
    change: Callable[[dict], object], whole: Path, tmp_path: Path
) -> None:
    resume(changed(whole, tmp_path / "same.pth", lambda content: None))
    path = changed(whole, tmp_path / "last.pth", change)
    with pytest.raises(InputError, match=r"last\.pth.*(Remove it|remove the file|copy them again)"):
        resume(path)


def test_no_flipped_bit_of_a_checkpoint_is_trained_on(whole: Path, tmp_path: Path) -> None:
    """A bit is found by a checksum, or it is in the padding between parts and changes nothing."""
    content, path = whole.read_bytes(), tmp_path / "last.pth"
    expected, refused = begun(), 0
    checkpoint.load(whole, expected)
    for place in range(0, len(content), 37):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        state = begun()
        try:
            assert checkpoint.read_progress(path, run="mine", steps=9).step == 3
            checkpoint.load(path, state)
        except InputError:
            refused += 1
        else:
            assert all(one.equal(two) for one, two in zip(tensors(state), tensors(expected), strict=True))
            assert str(state.optimizer.state_dict()) == str(expected.optimizer.state_dict())
    assert refused > 20


def test_weights_that_are_not_finite_are_not_saved(whole: Path, tmp_path: Path) -> None:
    state, path = begun(), tmp_path / "last.pth"
    path.write_bytes(whole.read_bytes())
    with torch.no_grad():
        state.model.line.bias.fill_(float("inf"))
    with pytest.raises(InputError, match=r"after step 4, such as line\.bias.*last good state is kept"):
        checkpoint.save(path, state, Progress(step=4))
    assert path.read_bytes() == whole.read_bytes()


def test_it_is_saved_at_each_epochs_end_and_after_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: 1000.0)
    assert [number for number in range(1, 9) if checkpoint.due(number, every=4, saved=999.0)] == [4, 8]
    assert not checkpoint.due(3, every=4, saved=401.0)
    assert checkpoint.due(3, every=4, saved=399.0)
