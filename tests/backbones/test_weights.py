from __future__ import annotations

import argparse
import dataclasses
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import backbones
from backbones import InputError, weights
from backbones.multiway import Multiway
from backbones.positions import resize_image_table
from tests.backbones.test_multiway import SMALL, small
from tests.support import processes


def official_file(path: Path, state: dict, *, wrapper: str = "model") -> Path:
    torch.save({wrapper: state}, path)
    return path


def under_official_names(model: Multiway) -> dict[str, torch.Tensor]:
    return {f"beit3.{name}": tensor for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("wrapper", ["model", "module"])
@pytest.mark.parametrize("with_heads", [False, True])
def test_official_pretrained_files_load_completely(tmp_path: Path, wrapper: str, with_heads: bool) -> None:
    source, target = small(seed=1), small(seed=2)
    state = under_official_names(source)
    if with_heads:
        state |= {"mlm_head.weight": torch.zeros(50, 32), "mlm_head.bias": torch.zeros(50)}
        state |= {"mim_head.weight": torch.zeros(8192, 32), "mim_head.bias": torch.zeros(8192)}
    report = weights.load(target, official_file(tmp_path / "beit3.pth", state, wrapper=wrapper))
    assert report.loaded == len(source.state_dict())
    assert report.fresh == report.resized == ()
    assert len(report.ignored) == (4 if with_heads else 0)
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name]), name


def training_checkpoint(state: dict, **more: object) -> dict:
    """A file as `save_model` of the official code writes it: a learning rate of the schedule is a NumPy number."""
    optimizer = {
        "state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(3)}},
        "param_groups": [{"lr": np.linspace(0, 1e-3, 7)[3] * 0.9, "betas": (0.9, 0.98), "params": [0]}],
    }
    args = argparse.Namespace(model="beit3_base_patch16_224_nlvr2", opt_betas=[0.9, 0.98], output_dir="out", dist=None)
    return {"model": state, "optimizer": optimizer, "epoch": 9, "scaler": {"scale": 65536.0}, "args": args, **more}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_official_training_checkpoints_load(tmp_path: Path, zipped: bool) -> None:
    source, target = small(seed=1), small(seed=2)
    content = training_checkpoint(under_official_names(source), model_ema=under_official_names(target))
    torch.save(content, tmp_path / "checkpoint-best.pth", _use_new_zipfile_serialization=zipped)
    assert weights.load(target, tmp_path / "checkpoint-best.pth").loaded == len(source.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_averaged_weights_stand_in_where_there_are_no_others(tmp_path: Path) -> None:
    source = small(seed=1)
    path = official_file(tmp_path / "ema.pth", under_official_names(source), wrapper="model_ema")
    assert weights.load(small(seed=2), path).loaded == len(source.state_dict())


@pytest.mark.spawn
def test_an_optimizers_state_stays_on_the_disk(tmp_path: Path) -> None:
    """Three times the size of the weights, in a process of its own whose peak is its own."""
    state = {"encoder.weight": torch.zeros(1 << 18)}
    torch.save(training_checkpoint(state) | {"optimizer": {"state": torch.ones(1 << 26)}}, tmp_path / "large.pth")
    torch.save(state, tmp_path / "before.pth")
    done = processes.run("tests.backbones.peak_of_reading", tmp_path / "before.pth", tmp_path / "large.pth")
    assert int(done.stdout) < 100 * 1024  # of the file's 256 MiB, in KiB


def test_safetensors_round_trip(tmp_path: Path) -> None:
    source, target = small(seed=1), small(seed=2)
    path = tmp_path / "ours.safetensors"
    weights.save(source.state_dict(), path, metadata={"note": "hello"})
    weights.load(target, path)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
    assert weights.metadata(path) == {"note": "hello"}
    assert [file.name for file in tmp_path.iterdir()] == ["ours.safetensors"]


def test_a_model_without_final_norm_takes_a_file_with_one_but_not_the_reverse(tmp_path: Path) -> None:
    bare = dataclasses.replace(SMALL, final_norm=False)
    normed_file = official_file(tmp_path / "normed.pth", under_official_names(small()))
    bare_file = official_file(tmp_path / "bare.pth", under_official_names(small(bare)))
    assert len(weights.load(small(bare), normed_file).ignored) == 4
    with pytest.raises(InputError, match=r"Missing \(4\): beit3.encoder.layer_norm"):
        weights.load(small(), bare_file)


def test_image_positions_are_resized_and_the_other_rows_kept(tmp_path: Path) -> None:
    source, target = small(), small(dataclasses.replace(SMALL, image_size=48))
    report = weights.load(target, official_file(tmp_path / "beit3.pth", under_official_names(source)))
    assert report.resized == ("beit3.encoder.embed_positions.A.weight",)
    old, new = (model.encoder.embed_positions["A"].weight for model in (source, target))
    assert torch.equal(old[:3], new[:3])
    assert new.shape == (39, 32)
    # Symmetric grids stay symmetric: a transposed or shifted grid would not.
    ramp = torch.cat([torch.zeros(3, 1), torch.arange(4.0).repeat_interleave(4)[:, None]])
    wide = resize_image_table(ramp, (6, 6))[3:].reshape(6, 6)
    assert torch.allclose(wide, wide[:, :1].expand(6, 6))
    assert torch.allclose(wide[:, 0] + wide.flip(0)[:, 0], torch.full((6,), 3.0), atol=1e-5)


def test_a_mismatch_names_every_kind_of_key_and_leaves_the_model_alone(tmp_path: Path) -> None:
    state = under_official_names(small(seed=1))
    del state["beit3.vision_embed.cls_token"]
    state["beit3.encoder.layers.9.surprise"] = torch.zeros(1)
    state["beit3.text_embed.weight"] = torch.zeros(51, 32)
    model = small(seed=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        weights.load(model, official_file(tmp_path / "other.pth", state))
    text = str(caught.value)
    assert "Missing (1): beit3.vision_embed.cls_token." in text
    assert "Unexpected (1): beit3.encoder.layers.9.surprise." in text
    assert "beit3.text_embed.weight (51x32 in the file, 50x32 in the model)" in text
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.weight": torch.zeros(1000, 512)}, path)
    with pytest.raises(InputError, match=r"do not fit this model. Missing \(\d+\)"):
        weights.load(small(), path)


def test_truncated_files_are_named(tmp_path: Path) -> None:
    whole = official_file(tmp_path / "beit3.pth", under_official_names(small()))
    weights.save(small().state_dict(), tmp_path / "beit3.safetensors")
    for path in (whole, tmp_path / "beit3.safetensors"):
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(InputError, match=f"{path}.*(truncated|not a whole).*again"):
            weights.load(small(), path)


class _Exploit:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "bare pickle"])
@pytest.mark.parametrize("place", ["model", "args", "optimizer", "number"])
def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, place: str, legacy: bool) -> None:
    """Whatever it hides in: the objects of training checkpoints that are let through are never made."""
    path, proof = tmp_path / "evil.pth", tmp_path / "ran"
    exploit = _Exploit(proof)
    content = training_checkpoint({"encoder.weight": torch.zeros(1)})
    content |= {
        "model": {"model": exploit},
        "args": {"args": argparse.Namespace(model=exploit)},
        "optimizer": {"optimizer": {"state": [exploit]}},
        "number": {"epoch": _Number(exploit)},
    }[place]
    if legacy:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match="could run code"):
        weights.load(small(), path)
    assert not proof.exists()


class _Number:
    """A NumPy number whose bytes are something else."""

    def __init__(self, content: object) -> None:
        self.content = content

    def __reduce__(self) -> tuple:
        return np.float64(1.0).__reduce__()[0], (np.dtype("O"), self.content)


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No weights file at"):
        weights.load(small(), tmp_path / "absent.pth")
    text = tmp_path / "page.pth"
    text.write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"page\.pth"):
        weights.load(small(), text)
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(InputError, match="no state dict"):
        weights.load(small(), tmp_path / "empty.pth")


def test_a_file_of_another_size_is_told_first(tmp_path: Path) -> None:
    state = {
        "beit3.vision_embed.proj.weight": torch.zeros(1024, 3, 16, 16),
        "beit3.encoder.embed_positions.A.weight": torch.zeros(2 + 1 + 24 * 24, 1024),
        **{f"beit3.encoder.layers.{layer}.ffn.A.fc1.bias": torch.zeros(4096) for layer in range(24)},
    }
    torch.save({"model": state}, tmp_path / "large.pth")
    with pytest.raises(InputError) as caught:
        weights.load(backbones.build("multiway_nano"), tmp_path / "large.pth")
    config = backbones.config("multiway_nano")
    said = f"large.pth has 24 layers of width 1024, not {config.layers} of {config.dim}. "
    assert str(caught.value).startswith(said + "Use --backbone beit3_large_patch16_384. The weights in")
    assert caught.value.options == ("--backbone", "beit3_large_patch16_384")
    assert "Missing" in str(caught.value)


def _bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


NAME = "beit3.encoder.layers.0.ffn.A.fc1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: torch.full_like(tensor, float("nan")), f"{NAME} has a number that is not finite"),
        (lambda tensor: tensor.index_fill(0, torch.tensor([3]), float("-inf")), f"{NAME} has a number that is not fin"),
        (lambda tensor: tensor.to(torch.int32), "numbers of type torch.int32"),
        (lambda tensor: tensor.to(torch.complex64), "numbers of type torch.complex64"),
        (lambda tensor: tensor.to_sparse(), "no plain tensor"),
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "no plain tensor"),
        (lambda tensor: torch.empty_like(tensor, device="meta"), "(no plain tensor|damaged)"),
    ],
)
def test_tensors_that_no_training_leaves_are_refused(
    change: Callable[[torch.Tensor], torch.Tensor], message: str, tmp_path: Path
) -> None:
    model = small(seed=1)
    state = under_official_names(model)
    state[NAME] = change(state[NAME])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=rf"beit3\.pth.*{message}"):
        weights.load(model, official_file(tmp_path / "beit3.pth", state))
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["encoder.embed_positions.A.weight", "vision_embed.proj.weight"])
@pytest.mark.parametrize("shape", [(0,), (0, 4), (1, 4), (14, 32), (2, 2, 2), ()])
def test_tables_and_kernels_of_no_image_are_refused(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    model = small(seed=1)
    state = under_official_names(model) | {f"beit3.{name}": torch.zeros(shape)}
    with pytest.raises(InputError, match=r"beit3\.pth"):
        weights.load(model, official_file(tmp_path / "beit3.pth", state))


def test_a_flipped_bit_of_a_pytorch_file_is_found(tmp_path: Path) -> None:
    path = official_file(tmp_path / "beit3.pth", under_official_names(small(seed=1)))
    _bit_flipped(path)
    with pytest.raises(InputError, match=r"damaged \(ValueError: the checksum of .*is wrong\)"):
        weights.read(path)


def test_a_file_of_thousands_of_other_names_is_refused_at_once(tmp_path: Path) -> None:
    state = {f"other.{number}": torch.zeros(1) for number in range(8_000)}
    torch.save(state, tmp_path / "others.pth")
    began = time.monotonic()
    with pytest.raises(InputError, match="do not fit this model"):
        weights.load(small(seed=1), tmp_path / "others.pth", new_heads=True)
    assert time.monotonic() - began < 10


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 of 2 tensors .*such as two, so .*was not written"):
        weights.save({"one": torch.ones(2), "two": torch.tensor([1.0, float("nan")])}, tmp_path / "final.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_weights_have_the_mode_of_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        weights.save({"one": torch.ones(2)}, tmp_path / "final.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "final.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("content", [b"", b"\xff" * 9, b"\x08\0\0\0\0\0\0\0{}      "[:12]])
def test_damaged_safetensors_are_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "final.safetensors"
    path.write_bytes(content)
    for read in (weights.read, weights.metadata):
        with pytest.raises(InputError, match=r"final\.safetensors"):
            read(path)
