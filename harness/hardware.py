"""The machine's device as far as it is known without PyTorch, which takes seconds to import."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86 and of ARM
BF16_GPU = 8.0  # compute capability from which GPUs multiply bfloat16 matrices


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The device that computes. kind: cpu or cuda; name: of the GPU; gpus: what CUDA_VISIBLE_DEVICES calls each."""

    kind: str
    name: str = ""
    bf16: bool
    gpus: tuple[str, ...] = ()

    @property
    def device_class(self) -> str:
        """The device by which results are told apart: cpu, or cuda with the GPU's name."""
        return f"{self.kind} {self.name}".strip()


def found() -> Hardware:
    """The device that a process started here computes on, as `harness.device.device` chooses it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible != "" and (shutil.which("nvidia-smi") or Path("/dev/kfd").exists()):
        return _of_nvidia_smi(visible) or _of_pytorch()
    if not CPU_INFO.exists():
        return _of_pytorch()
    words = (line.partition(":")[2].split() for line in CPU_INFO.read_text().splitlines() if _has_flags(line))
    return Hardware(kind="cpu", bf16=bool(BF16_FLAGS & set(next(words, ()))))


def _has_flags(line: str) -> bool:
    return line.partition("\t")[0].strip().lower() in ("flags", "features")


def _of_nvidia_smi(visible: str | None) -> Hardware | None:
    """The first visible GPU and the names of all; None where the program cannot say."""
    query = ["nvidia-smi", "--query-gpu=index,name,compute_cap", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
        gpus = {index: (name, float(capability)) for index, name, capability in (line.split(", ") for line in lines)}
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    names = tuple(visible.split(",")) if visible else tuple(gpus)
    if not names or names[0] not in gpus:  # named by UUID, or parts of a GPU
        return None
    name, capability = gpus[names[0]]
    return Hardware(kind="cuda", name=name, bf16=capability >= BF16_GPU, gpus=names)


def _of_pytorch() -> Hardware:
    import torch

    from harness.device import computes_bf16, describe, device

    where = device()
    gpus = tuple(map(str, range(torch.cuda.device_count())))
    if where.type == "cuda" and (visible := os.environ.get("CUDA_VISIBLE_DEVICES")):
        gpus = tuple(visible.split(","))[: len(gpus)]
    name = describe(where) if where.type == "cuda" else ""
    return Hardware(kind=where.type, name=name, bf16=computes_bf16(where), gpus=gpus)
