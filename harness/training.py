"""Fine-tuning on mmengine's Runner."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from safetensors.torch import load_file

from backbones import weights
from backbones.errors import InputError, UsageError
from harness import distributed, loggers, provenance
from harness.batch import accumulation, require_enough
from harness.cores import loader_workers
from harness.device import describe, device, peak_memory, precision, reset_peak_memory
from harness.hooks import Checkpoint, FiniteLoss, Schedule, ShowProgress, Validate
from harness.loading import TrainBatches, train_loader
from harness.loop import StepLoop
from harness.optim import StepWrapper, adamw, recipe_schedule
from harness.progress import bar, note
from harness.validation import Validation
from harness.workdir import FINAL
from tasks.recipe import Recipe

LOG_EVERY = 20  # steps


@dataclass(frozen=True)
class Trained:
    """What fine-tuning leaves."""

    weights: Path
    seconds: float  # over all interrupted parts


def fine_tune(
    model: BaseModel,
    items: torch.utils.data.Dataset,
    recipe: Recipe,
    *,
    folder: Path,
    seed: int,
    log: Sequence[str],
    columns: Mapping[str, Any] | None = None,
    validation: Validation | None = None,
) -> Trained:
    """Train until the recipe's end, going on from `folder/last.pth` when it is there.

    The result is `FINAL` in `folder`, under the names of the official checkpoints; the averaged weights
    when the recipe has an EMA, and those that validated best when it says keep=best.

    Args:
        log: "tensorboard" and "wandb" for these besides the local log files.
        columns: what rows made with the weights shall say of their training, besides what is known here.
        validation: scores during the training, as often as the recipe says.

    Raises:
        InputError: NaN loss, unreadable images, no space.
        UsageError: a batch that does not fit.
    """
    processes = distributed.world_size()
    require_enough(recipe, samples=len(items), processes=processes)
    parts = accumulation(recipe, processes=processes)
    batches = TrainBatches(
        len(items),
        micro=recipe.micro_batch,
        accumulation=parts,
        seed=seed,
        rank=distributed.rank(),
        world_size=processes,
    )
    rates = recipe_schedule(recipe, steps_per_epoch=batches.steps_per_epoch)
    note(
        f"Effective batch {recipe.batch_size} = {recipe.micro_batch} per process × {processes} process(es) × "
        f"{parts} accumulation step(s); {len(rates)} steps, {batches.steps_per_epoch} an epoch"
    )
    folder.mkdir(parents=True, exist_ok=True)
    resumed = distributed.decided(lambda: _resumable(folder / "last.pth"))
    if recipe.split_alters and resumed.step and resumed.processes != processes:
        raise UsageError(
            f"The training in {folder} began on {resumed.processes} process(es), and this recipe's gradients depend on "
            f"how a batch is split: it cannot be resumed on {processes}. Start as many processes as before, or remove "
            f"{folder} to begin again."
        )
    if resumed.step:
        distributed.wait_for(folder / "last.pth")
    began = time.monotonic() - resumed.seconds
    where = device()
    reset_peak_memory(where)

    def seconds() -> float:
        return time.monotonic() - began - (validation.seconds if validation else 0.0)

    # The runner leaves its default scope behind, in which the modules of MMDetection and MMSegmentation are not found.
    with bar("fine-tune", len(rates), done=resumed.step) as shown, DefaultScope.overwrite_default_scope("mmengine"):
        ema = [EMAHook(momentum=1 - recipe.ema_decay)] if recipe.ema_decay else []
        validating = []
        if validation:
            averaged = ema[0] if ema else None
            validating = [Validate(validation, averaged, steps_per_epoch=batches.steps_per_epoch, last=len(rates))]
        hooks = [
            Schedule(rates),
            FiniteLoss(rates, folder / "last.pth"),
            *ema,
            *validating,
            Checkpoint(folder / "last.pth", steps_per_epoch=batches.steps_per_epoch, seconds=seconds),
            ShowProgress(shown),
        ]
        runner = _runner(
            model.to(where),
            recipe,
            folder=folder,
            loader=train_loader(items, batches, workers=loader_workers(recipe.workers), seed=seed),
            loop={
                "type": StepLoop,
                "max_iters": len(rates),
                "micro_batch": recipe.micro_batch,
                "accumulation": parts,
                "seed": seed,
            },
            wrapper=StepWrapper(
                adamw(model, recipe),
                precision=precision(recipe.precision, where),
                device=where,
                accumulative_counts=parts,
                clip_grad={"max_norm": recipe.clip_grad} if recipe.clip_grad else None,
            ),
            hooks=hooks,
            seed=seed,
            log=log,
            resume=folder / "last.pth" if resumed.step else None,
        )
        runner.train()
    del runner
    gc.collect()  # the optimizer's memory, and the threads of gradient averaging
    if ema:
        model.load_state_dict(ema[0].ema_model.module.state_dict())
    final = folder / FINAL
    known = {
        **(columns or {}),
        "train_seconds": round(seconds(), 1),
        "train_steps": len(rates),
        "train_processes": processes,
        "train_micro_batch": recipe.micro_batch,
        "train_precision": precision(recipe.precision, where),
        "train_device": describe(where),
        "train_peak_memory": peak_memory(where),
    }
    kept = None
    if validation and recipe.keep == "best":
        kept, known["selected"] = validation.best, validation.choice
    distributed.decided(lambda: _save_final(model, final, known, kept=kept))
    return Trained(final, seconds())


def _save_final(model: BaseModel, path: Path, columns: Mapping[str, Any], *, kept: Path | None) -> None:
    """Save the result of the fine-tuning: the weights in the file `kept`, or those of the model."""
    try:
        state = model.state_dict()
        if kept:
            state, columns = load_file(kept), {**columns, "train_steps": int(weights.metadata(kept)["step"])}
        weights.save(state, path, metadata=provenance.stored(columns))
    except OSError as error:
        raise InputError(
            f"The fine-tuned weights {path} cannot be written ({error}). Free some space and run the same command "
            "again."
        ) from error
    # The optimizer's state has done its work; it is twice the size of the weights.
    (path.parent / "last.pth").unlink(missing_ok=True)
    if kept:
        kept.unlink()


@dataclass(frozen=True)
class _Resumed:
    step: int = 0
    seconds: float = 0.0
    processes: int = 1


def _resumable(path: Path) -> _Resumed:
    if not path.is_file():
        return _Resumed()
    try:
        meta = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["meta"]
    except Exception as error:  # any damage to the file
        raise InputError(
            f"The checkpoint {path} is damaged ({type(error).__name__}). Remove it to start the fine-tuning again."
        ) from error
    note(f"Going on from step {meta['iter']} ({path})")
    return _Resumed(meta["iter"], meta["train_seconds"], meta["processes"])


class _Runner(Runner):
    def _log_env(self, env_cfg: dict) -> None:
        """Nothing: mmengine asks gcc and nvcc for their versions here, which a bare machine answers with noise."""


def _runner(
    model: BaseModel,
    recipe: Recipe,
    *,
    folder: Path,
    loader: torch.utils.data.DataLoader,
    loop: dict,
    wrapper: StepWrapper,
    hooks: list[Hook],
    seed: int,
    log: Sequence[str],
    resume: Path | None,
) -> Runner:
    return _Runner(
        model=_shared(model),
        work_dir=str(folder / "log"),
        train_dataloader=loader,
        train_cfg=loop,
        optim_wrapper=wrapper,
        default_hooks={
            "logger": {"type": "LoggerHook", "interval": LOG_EVERY, "log_metric_by_epoch": False},
            "param_scheduler": None,  # Schedule
            "checkpoint": None,  # Checkpoint
            "sampler_seed": None,  # TrainBatches
        },
        custom_hooks=hooks,
        log_processor={"by_epoch": False},
        log_level="ERROR",
        visualizer={"type": "Visualizer", "vis_backends": _backends(log)},
        launcher="pytorch" if distributed.world_size() > 1 else "none",
        randomness={"seed": seed},
        experiment_name=uuid.uuid4().hex,  # mmengine keeps loggers by this name for the life of the process
        load_from=str(resume) if resume else None,
        resume=resume is not None,
    )


def _shared(model: BaseModel) -> BaseModel | MMDistributedDataParallel:
    """The model, with gradients averaged over processes when there are several, and batch statistics on GPUs.

    Batch normalisation cannot be synchronised on the CPU: PyTorch has it for GPUs only.
    """
    if distributed.world_size() == 1:
        return model
    where = next(model.parameters()).device
    if where.type == "cuda":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    # mmengine's own wrapping names a device, which PyTorch refuses on the CPU.
    devices = [where.index] if where.type == "cuda" else None
    # Most tasks leave some of the backbone alone: the mask token, experts of the modality that they do not have.
    return MMDistributedDataParallel(
        module=model, device_ids=devices, broadcast_buffers=False, find_unused_parameters=True
    )


def _backends(log: Sequence[str]) -> list[dict]:
    return [{"type": kind} for kind in ("LocalVisBackend", *(loggers.BACKENDS[name] for name in log))]
