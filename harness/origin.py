"""Columns of a row about the origin of a number: how the weights were trained, and how they predicted.

Fine-tuning stores its columns in the weights file (safetensors metadata), and every row made with these weights has
them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from backbones import weights as weight_files
from backbones.released import released
from harness import distributed, provenance
from harness.device import describe, device, peak_memory, prediction_precision
from harness.experiment import NO_WEIGHTS, Experiment
from harness.fingerprint import Fingerprint
from harness.inference import Predicted
from leaderboards import leaks, rows
from leaderboards.rows import TRAINED


def of_training(experiment: Experiment, *, weights_sha256: str, data: Fingerprint) -> dict[str, Any]:
    """Row columns about a fine-tuning, as far as they are known when it begins.

    Args:
        weights_sha256: of the file that it starts from; empty without one.
        data: of the training samples.
    """
    recipe = experiment.recipe
    taught = f"{experiment.adapter.name}:{experiment.adapter.train_split}"
    return {
        **_file(experiment.weights, weights_sha256),
        "pretraining": _stored(experiment.weights).get("pretraining", "") if experiment.weights else "",
        "trained_on": " ".join(dict.fromkeys([*_seen(experiment, weights_sha256), taught])),
        "recipe": recipe.name,
        "recipe_altered": " ".join(experiment.altered),
        "recipe_sha256": provenance.recipe_sha256(recipe),
        "recipe_deviations": "; ".join(recipe.deviations),
        "seed": experiment.seed,
        "train_data_sha256": data.data,
        "train_images_sha256": data.images_sha256,
        "train_package": provenance.package(),
        "train_libraries": provenance.library_versions(),
    }


def _seen(experiment: Experiment, weights_sha256: str) -> Sequence[str]:
    """Training data of the weights that a run starts from: as declared, as stored in the file, or as known of it."""
    if experiment.weights is None:
        return experiment.trained_on
    return _seen_by(experiment.weights, weights_sha256, _stored(experiment.weights), experiment.trained_on)


def _seen_by(path: Path, sha256: str, stored: Mapping[str, Any], declared: Sequence[str]) -> Sequence[str]:
    known = stored.get("trained_on", "").split() or leaks.declared(released(path), sha256)
    return tuple(dict.fromkeys([*known, *declared]))


def of_weights(path: Path, sha256: str, declared: Sequence[str] = ()) -> dict[str, Any]:
    """Row columns about the training of a file with backbone and head; only the file's own when it has none.

    Args:
        declared: what it has seen besides, as TASK:SPLIT.
    """
    trained = _stored(path)
    seen = {"trained_on": " ".join(_seen_by(path, sha256, trained, declared))}
    if "recipe" in trained:
        return {**trained, **seen, "finetuned_sha256": sha256}
    return {**_file(path, sha256), "pretraining": trained.get("pretraining", ""), **seen}


def of_prediction(experiment: Experiment, model: nn.Module, predicted: Predicted) -> dict[str, Any]:
    """Row columns of a prediction: settings, hardware, time and memory."""
    where = device()
    shaping = experiment.recipe.predicting()
    speed = predicted.samples / predicted.seconds if predicted.samples else None
    return {
        "backbone": experiment.backbone,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "resolution": experiment.recipe.image_size,
        "predict_recipe": experiment.recipe.name,
        "predict_altered": " ".join(name for name in experiment.altered if name in shaping),
        "predict_fields": json.dumps(shaping, sort_keys=True, separators=(",", ":")),
        "predict_package": provenance.package(),
        "predict_libraries": provenance.library_versions(),
        "device": describe(where),
        "precision": prediction_precision(experiment.recipe, where),
        "processes": distributed.world_size(),
        "predict_seconds": round(predicted.seconds, 2) if predicted.samples else None,  # after a kill it is not known
        "samples_per_second": round(speed, 2) if speed else None,
        "peak_memory": peak_memory(where),
    }


def _file(path: Path | None, sha256: str) -> dict[str, str]:
    if path is None:
        return {"weights": NO_WEIGHTS}
    return {"weights": path.name, "weights_sha256": sha256, "released": released(path)}


def _stored(path: Path) -> dict[str, Any]:
    """Columns in the metadata of a safetensors file, and no others that someone may have put there."""
    if path.suffix != ".safetensors":
        return {}
    metadata = weight_files.metadata(path)
    try:
        columns = json.loads(metadata.get(provenance.TRAINED, "{}"))
        found = {name: columns[name] for name in TRAINED if name in columns}
    except (ValueError, TypeError, RecursionError):  # metadata of another program
        return {}
    return {} if rows.unfit(found) else found
