"""Report of what works on this machine."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from backbones import opencv
from backbones.errors import InputError
from backbones.packages import install_command, reinstall_command

PACKAGES = {
    "torch": "everything",
    "torchvision": "images",
    "timm": "augmentation and timm backbones",
    "mmengine": "training",
    "cv2": "mmengine and the dense tasks",
    "mmcv": "dense tasks",
    "mmdet": "COCO detection",
    "mmseg": "ADE20K",
    "pycocotools": "COCO detection",
    "pycocoevalcap": "captioning scores",
    "pandas": "tables",
}
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "mmcv": "mmcv-lite", "mmseg": "mmsegmentation"}  # others: the module
FREE_GIB = 5.0  # a base-size run with its checkpoint


class Finding(NamedTuple):
    """Result of one check; `needed` when nothing works without it."""

    name: str
    ok: bool | None  # None: absent, and nobody asked for it
    detail: str
    needed: bool = False


def examine(*, data: Sequence[str | Path] = (), out: str | Path = "runs") -> list[Finding]:
    """Examine Python, packages, device, Java, disk and data folders."""
    packages = [_package(name, use) for name, use in PACKAGES.items()]
    findings = [_python(), *packages]
    if packages[0].ok:
        findings += _device()
    findings += [_java(), _disk(Path(out))]
    for root in data:
        findings += _data(Path(root))
    return findings


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    advice = "" if ok else "; 3.11 or newer is needed"
    return Finding("Python", ok, f"{platform.python_version()} on {platform.platform()}{advice}", needed=True)


def _package(name: str, use: str) -> Finding:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a package can fail in any way
        reason = str(error).splitlines()[0] if str(error) else ""
        return Finding(name, False, f"{type(error).__name__}: {reason} (for {use}). {_fix(name, error)}", needed=True)
    if name == "cv2" and (reason := opencv.reason()):
        return Finding(
            name, True, f"cannot be loaded ({reason}); a stand-in is used, which is enough here", needed=True
        )
    version = getattr(module, "__version__", None) or _installed_version(name)
    return Finding(name, True, f"{version} (for {use}){_operators() if name == 'mmcv' else ''}", needed=True)


def _fix(name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"Install what is missing: {reinstall_command()}"
    return f"Install it again: {install_command('--force-reinstall', '--no-deps', DISTRIBUTIONS.get(name, name))}"


def _operators() -> str:
    from backbones import operators

    return ", compiled operators of its own" if operators.compiled() else ", operators in PyTorch from this project"


def _installed_version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "version unknown"


def _device() -> list[Finding]:
    import torch

    from harness.device import computes_bf16, describe, device

    where = device()
    memory = f", {torch.cuda.get_device_properties(where).total_memory / 2**30:.0f} GiB" if where.type == "cuda" else ""
    count = torch.get_num_threads()
    threads = "" if memory else f", {count} thread{'s' if count > 1 else ''}, no GPU found"
    bf16 = computes_bf16(where)
    effect = "used by default" if bf16 else "float32 is used by default"
    return [
        Finding("device", True, f"{describe(where)}{memory}{threads}", needed=True),
        Finding("bf16", bf16, f"bfloat16 products in hardware: {'yes' if bf16 else 'no'}; {effect}"),
    ]


def _java() -> Finding:
    from tasks.captioning import java

    try:
        found = java.find()
    except InputError as error:
        return Finding("Java", False, str(error))
    return Finding("Java", True, f"{found.version}, {found.path} (for caption scores)")


def _disk(out: Path) -> Finding:
    existing = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 2**30
    if not os.access(existing, os.W_OK):
        return Finding("disk", False, f"{existing} cannot be written; give another --out", needed=True)
    enough = free >= FREE_GIB
    advice = "" if enough else f"; a base-size run takes about {FREE_GIB:.0f} GiB"
    return Finding("disk", enough, f"{free:.1f} GiB free for {out}{advice}")


def _data(root: Path) -> list[Finding]:
    """One finding for each task with data in a folder, and one for all others."""
    if not root.is_dir():
        return [Finding(f"data {root}", False, f"no such folder; `harness toy {root}` draws a practice set there")]
    import tasks
    from tasks.common.checking import read_samples

    findings, others = [], []
    for name in tasks.names():
        try:
            adapter = tasks.get(name)
            samples = read_samples(adapter, adapter.data_folder(root), adapter.eval_split)
        except InputError:
            others.append(name)
        else:
            findings.append(Finding(f"data {name}", True, f"{len(samples):,} {adapter.eval_split} samples in {root}"))
    if others:
        why = f"`harness check {others[0]} --data {root}` says what is missing"
        text = f"{root} has no {', no '.join(others)}; {why}" if findings else f"no task's data; {why}"
        findings.append(Finding(f"data {root}", None if findings else False, text))
    return findings
