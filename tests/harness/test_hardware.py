"""The device as it is known without PyTorch, held against PyTorch's own view."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from harness import device, hardware
from harness.hardware import Hardware

SMI = "0, NVIDIA H100 80GB HBM3, 9.0\n1, Tesla V100-SXM2-32GB, 7.0\n"


def test_it_is_what_pytorch_sees() -> None:
    where, found = device.device(), hardware.found()
    assert (found.kind, found.bf16) == (where.type, device.computes_bf16(where))
    assert found.name == (device.describe(where) if where.type == "cuda" else "")
    assert len(found.gpus) == torch.cuda.device_count()


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, Hardware(kind="cuda", name="NVIDIA H100 80GB HBM3", bf16=True, gpus=("0", "1"))),
        ("1,0", Hardware(kind="cuda", name="Tesla V100-SXM2-32GB", bf16=False, gpus=("1", "0"))),
    ],
)
def test_gpus_are_those_that_are_visible(
    visible: str | None, expected: Hardware, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    done = subprocess.CompletedProcess([], 0, stdout=SMI)
    monkeypatch.setattr(hardware.subprocess, "run", lambda *_, **__: done)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware.found() == expected


def test_hidden_gpus_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert hardware.found().kind == "cpu"


@pytest.mark.parametrize(
    ("flags", "bf16"),
    [("flags\t\t: fpu avx512_bf16 sse", True), ("Features\t: fp bf16", True), ("flags\t: fpu", False)],
)
def test_a_cpu_says_whether_it_computes_in_bf16(
    flags: str, bf16: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\nbugs\t: bf16\n")
    monkeypatch.setattr(hardware, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(hardware.shutil, "which", lambda _: None)
    assert hardware.found() == Hardware(kind="cpu", bf16=bf16)
