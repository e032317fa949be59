"""The benchmarks run, at a tiny size, and their arithmetic is right. No figure here depends on the machine."""

from __future__ import annotations

import math
import sys
import time

import pytest
import torch

import backbones
from backbones.multiway import Multiway
from tests.benchmarks import decoding, engine, forward, leaderboard, peers, retrieval, startup, timing, vqa
from tests.benchmarks.answers import answered
from tests.benchmarks.engine import Step, Taken

BASE = backbones.config("beit3_base_patch16_224")
NANO = backbones.resolve("multiway_nano", final_norm=False)
NO_PEER = "compares with torchscale's outputs; torchscale is no dependency (it wants an old timm and fairscale)"


# Timing


def test_every_round_calls_all_and_every_second_one_backwards() -> None:
    calls: list[str] = []
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = timing.interleaved(functions, rounds=3, warmup=1)
    assert "".join(calls) == "abc" + "abc" + "cba" + "abc"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_speedup_compares_within_rounds() -> None:
    # The machine became ten times slower after the first round; b takes twice as long throughout.
    seconds = {"a": [1.0, 10.0, 10.0], "b": [2.0, 20.0, 20.0]}
    assert timing.speedup(seconds, "a", "b") == 2
    assert timing.speedup(seconds, "b", "a") == 0.5
    assert timing.medians(seconds) == {"a": 10, "b": 20}


def test_a_call_is_timed_to_its_end() -> None:
    assert 0.02 <= timing.once(lambda: time.sleep(0.02)) < 2


# Peers


def test_torchscale_computes_the_same_and_a_changed_weight_shows() -> None:
    pytest.importorskip("torchscale", reason=NO_PEER)
    ours, other = peers.ours(NANO), peers.torchscale(NANO)
    peers.vary(ours.model)
    peers.copy_weights(ours.model, other)
    image = peers.random_images(NANO, 2)
    assert peers.largest_difference(ours, other, image) < peers.TOLERANCE
    with torch.no_grad():
        other.model.encoder.layers[-1].ffn.A.fc2.bias[0] += 0.01
    assert peers.largest_difference(ours, other, image) > peers.TOLERANCE


def test_torchscale_leaves_no_stand_in_for_fairscale_behind() -> None:
    pytest.importorskip("torchscale", reason=NO_PEER)
    model = peers.torchscale_beit3(NANO, drop_path=0.2)
    assert model.encoder.layers[-1].drop_path.drop_prob == pytest.approx(0.2)
    module = sys.modules.get("fairscale")
    assert module is None or module.__spec__ is not None


def test_torchscale_refuses_shapes_that_it_does_not_have() -> None:
    pytest.importorskip("torchscale", reason=NO_PEER)
    with pytest.raises(ValueError, match="every module once per modality"):
        peers.torchscale_beit3(backbones.resolve("multiway_nano", attention="shared"))


def test_without_torchscale_the_way_to_get_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "has_torchscale", lambda: False)
    with pytest.raises(SystemExit, match=r"pip install --no-deps torchscale==0\.3\.0"):
        peers.torchscale_beit3(NANO)


# Forward

ONCE = ("--starts", "1", "--rounds", "1", "--warmup", "0")


def test_forward(forked: None, capsys: pytest.CaptureFixture) -> None:
    status, report = answered(forward.main, capsys, "--size", "nano", "--batch", "1", *ONCE)
    others = ["timm", *(["torchscale"] if peers.has_torchscale() else [])]
    expected = {"ours", *others, *[f"{name}, kept" for name in others]}
    for precision in ("fp32", "bf16"):
        assert {row["implementation"] for row in report["rows"] if row["precision"] == precision} == expected
    assert all(row["ours is × faster"] > 0 for row in report["rows"] if row["implementation"] != "ours")
    # What does not compute the same as ours is not timed: the notes have the differences.
    assert sum("Largest difference" in note for note in report["notes"]) == len(others)
    assert status == 0  # only base has targets


def test_forward_goes_on_without_torchscale_and_says_so(
    forked: None, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "has_torchscale", lambda: False)
    assert forward.main(["--size", "nano", "--batch", "1", *ONCE]) == 0
    printed = capsys.readouterr().out
    assert "Skipped: torchscale is absent" in printed
    assert "timm" in printed


def test_forward_times_nothing_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "copy_weights", lambda source, peer: None)
    with pytest.raises(SystemExit, match="nothing to compare"):
        forward.main(["--size", "nano", "--batch", "1", *ONCE])


def test_forward_misses_a_target_that_is_not_reached_or_not_measured() -> None:
    def row(precision: str, name: str, ratio: float) -> dict:
        return {"precision": precision, "implementation": name, "ours is × faster": ratio}

    met = [row("fp32", "torchscale", 1.2), row("fp32", "timm", 1.0), row("bf16", "torchscale", 1.5)]
    assert forward.missed([*met, row("bf16", "timm", 1.01)]) == []
    assert forward.missed([*met, row("bf16", "timm", 0.99)]) == ["bf16 against timm: 0.990, target 1.0"]
    assert forward.missed(met) == ["bf16 against timm: not measured, target 1.0"]


# Decoding


def test_decoding(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("torchscale", reason=NO_PEER)
    options = ["--size", "nano", "--batch", "2", "--length", "6", "--rounds", "1"]
    status, report = answered(decoding.main, capsys, *options)
    assert [row["implementation"] for row in report["rows"]] == ["ours", "plain"]
    assert report["notes"][0].startswith("Equal captions, of ")
    assert status == 0  # only base has a target


# Engine


def test_engine(capsys: pytest.CaptureFixture) -> None:
    status, report = answered(engine.main, capsys, "--size", "nano", "--batch", "2", "--steps", "3", "--warmup", "1")
    whole = report["rows"][0]
    assert all(math.isfinite(whole[name]) for name in ("overhead %", "± %"))
    assert 0 < whole["bare loop s"] < 10
    assert 0 < whole["engine s"] < 10
    for row in report["rows"][1:]:  # on a CPU: data, seeds, hooks and logs are some of a step, not all of it
        assert 0 < row["engine s"] < whole["engine s"]
    assert status == 0


def test_overhead_is_not_moved_by_a_machine_that_slows_down() -> None:
    # A bare step grows from 1.00 s by 0.02 s a step; the engine adds 0.05 s, of which 0.04 s outside.
    bare = [Step(1 + 0.02 * 2 * number, 0.01) for number in range(11)]
    engines = [Step(1 + 0.02 * (2 * number + 1) + 0.05, 0.05) for number in range(10)]
    found = engine.overhead(Taken(bare, engines))
    middle = 1 + 0.02 * 10
    assert found.whole == pytest.approx(100 * 0.05 / middle)
    assert found.uncertainty == pytest.approx(0, abs=1e-9)
    assert found.outside == pytest.approx(100 * 0.04 / middle)


def test_overhead_is_not_moved_by_one_slow_step() -> None:
    bare = [Step(1.0, 0.0)] * 6
    engines = [Step(1.02, 0.0)] * 4 + [Step(9.0, 0.0)]
    assert engine.overhead(Taken(bare, engines)).whole == pytest.approx(2)


def test_the_bare_loop_steps_between_the_steps_of_the_engine() -> None:
    happened: list[str] = []
    model = torch.nn.Linear(1, 1)
    watch = engine.Stopwatch(model)
    items = engine.AlternatingSteps(
        engine.RandomImages(NANO, 2), batch=2, steps=3, bare=lambda: happened.append("bare"), watch=watch
    )
    with pytest.raises(engine.Finished):
        for index in range(len(items)):
            items[index]
            happened.append("item")
    watch.close()
    assert happened == ["bare", "item", "item"] * 3 + ["bare"]
    assert (len(items.taken.engine), len(items.taken.bare)) == (3, 4)


def test_the_bare_loop_trains() -> None:
    torch.manual_seed(0)
    config = backbones.resolve("multiway_nano", image_size=16, final_norm=False)
    recipe = engine.Recipe(
        name="", source="", image_size=16, epochs=1, warmup_epochs=0, batch_size=2, lr=1e-3, precision="fp32"
    )
    model = engine.ImageClassifier(Multiway(config), classes=engine.CLASSES)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    engine.BareLoop(model.to(engine.device()), engine.RandomImages(config, 2), recipe, steps=1)()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor.cpu(), before[name])}
    assert moved == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(parameter.grad is None for parameter in model.parameters())


# Start


def test_startup(capsys: pytest.CaptureFixture) -> None:
    _, report = answered(startup.main, capsys, "--rounds", "1")
    seconds = {row["command"]: row["seconds"] for row in report["rows"]}
    assert list(seconds) == [startup.BARE, "harness --help", "harness list"]
    assert all(0 < value < 60 for value in seconds.values())


def test_a_leaderboards_table_is_timed_beside_pandas(capsys: pytest.CaptureFixture) -> None:
    _, report = answered(leaderboard.main, capsys, "--rows", "20", "--rounds", "1")
    seconds = {row["command"]: row["seconds"] for row in report["rows"]}
    assert list(seconds) == ["pandas.read_csv", leaderboard.TABLE] and min(seconds.values()) > 0


def test_startup_has_a_target_for_the_commands_alone() -> None:
    rows = [{"command": "a", "seconds": 9.0, "target": None}, {"command": "b", "seconds": 0.5, "target": 0.5}]
    assert startup.missed(rows) == []
    assert startup.missed([*rows, {"command": "c", "seconds": 0.51, "target": 0.5}]) == ["c: 0.51 s, target 0.5 s"]


# VQA


def test_vqa_scores_made_up_questions(capsys: pytest.CaptureFixture) -> None:
    status, report = answered(vqa.main, capsys, "--questions", "60", "--training", "3000", "--images", "20")
    (row,) = report["rows"]
    assert row["metrics"] == 5  # official accuracy, three kinds of answer, soft score
    assert row["of the processor"] > 0
    assert 0.01 < row["peak memory (GiB)"] < 2
    assert status == bool(report["missed"])


def test_vqa_misses_what_takes_too_long_or_too_much() -> None:
    assert vqa.missed(20, 2) == []
    assert vqa.missed(20.1, 2.01) == ["20.1 s, target 20 s", "2.01 GiB, target 2 GiB"]


# Retrieval


def test_retrieval(capsys: pytest.CaptureFixture) -> None:
    small = ("--images", "2", "--batch", "3", "--rounds", "1", "--gallery", "10", "50", "8")
    status, report = answered(retrieval.main, capsys, "--size", "nano", *small)
    assert status == 0  # only the released sizes have targets
    assert [row["figure"] for row in report["rows"]] == [
        "encode, once each",
        "encode, a pair per caption",
        "ranks",
        "intervals",
    ]
    assert all(row["seconds"] > 0 for row in report["rows"])
    assert report["rows"][0]["share of the official time"] > 0
    # At least the features: 60 of 8 numbers of 4 bytes.
    assert report["rows"][2]["peak GiB"] * 2**30 > 60 * 8 * 4


def test_retrieval_times_nothing_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    other = retrieval.row_by_row
    monkeypatch.setattr(retrieval, "row_by_row", lambda *args: [-features for features in other(*args)])
    with pytest.raises(SystemExit, match="nothing to compare"):
        retrieval.main(["--size", "nano", "--images", "2", "--rounds", "1"])
