"""Result rows in the forms of others: Hugging Face, Every Eval Ever, and CSV of two shapes. Files by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from leaderboards import render
from leaderboards.board import labels
from leaderboards.results import FILE

LEVEL = 0.95
EEE_VERSION = "0.3.0"
# Data sets on the Hugging Face hub, by task; others are named by the user.
HUB = {
    "imagenet": "ILSVRC/imagenet-1k",
    "ade20k": "zhoubolei/scene_parse_150",
    "coco_detection": "detection-datasets/coco",
    "vqav2": "HuggingFaceM4/VQAv2",
    "coco_captioning": "HuggingFaceM4/COCO",
    "nocaps": "HuggingFaceM4/NoCaps",
    "coco_retrieval": "HuggingFaceM4/COCO",
    "coco_zero_shot": "HuggingFaceM4/COCO",
    "flickr30k_retrieval": "nlphuji/flickr30k",
    "flickr30k_zero_shot": "nlphuji/flickr30k",
}
# Pipeline tags of the hub, by task.
PIPELINES = {
    "imagenet": "image-classification",
    "ade20k": "image-segmentation",
    "coco_detection": "object-detection",
    "vqav2": "visual-question-answering",
    "nlvr2": "visual-question-answering",
    "coco_captioning": "image-to-text",
    "nocaps": "image-to-text",
    **dict.fromkeys(
        ("coco_retrieval", "coco_zero_shot", "flickr30k_retrieval", "flickr30k_zero_shot"), "feature-extraction"
    ),
}


@dataclass(frozen=True, kw_only=True)
class About:
    """Facts that the rows do not have.

    organization: who evaluated.
    relationship: of the evaluator to the model, as Every Eval Ever names it: first_party, third_party, collaborative
        or other.
    hub: data set on the Hugging Face hub by task.
    retrieved: Unix time of the export, in seconds.
    """

    organization: str
    relationship: str
    retrieved: int
    hub: Mapping[str, str] = field(default_factory=dict)


def eval_results(rows: pd.DataFrame, about: About) -> dict[str, str]:
    """A YAML file per model for its repository's `.eval_results` (hub-docs, eval-results.md). Intervals are notes.

    Rows of tasks without a data set on the hub are left out.
    """
    return {
        f"{_file_name(label)}.yaml": _yaml([_entry(row, about) for row in own]) for label, own in _models(rows, about)
    }


def _entry(row: Mapping[str, Any], about: About) -> dict[str, Any]:
    return {
        "dataset": {"id": about.hub[row["task"]], "task_id": f"{row['split']}_{row['metric']}"},
        "value": row["value"],
        "date": row["started"][:10],
        "source": {"name": f"multiway-harness {row['package_version']}".strip(), "user": about.organization},
        "notes": _notes(row),
    }


def model_index(rows: pd.DataFrame, about: About) -> dict[str, str]:
    """Model card metadata per model (hub-docs, model-cards.md). Tasks without a data set on the hub are left out."""
    return {
        f"{_file_name(label)}.md": f"---\n{_yaml({'model-index': [_indexed(label, own, about)]})}---\n"
        for label, own in _models(rows, about)
    }


def _indexed(label: str, rows: list[Mapping[str, Any]], about: About) -> dict[str, Any]:
    results: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        key = row["task"], row["split"], row["dataset"]
        result = results.setdefault(
            key,
            {
                "task": {"type": PIPELINES.get(row["task"], row["task"])},
                "dataset": {"type": about.hub[row["task"]], "name": row["dataset"], "split": row["split"]},
                "metrics": [],
            },
        )
        name = f"{row['metric']} ({_notes(row)})"
        result["metrics"].append({"type": row["metric"], "value": row["value"], "name": name, "verified": False})
    return {"name": label, "results": list(results.values())}


def every_eval_ever(rows: pd.DataFrame, about: About) -> dict[str, str]:
    """A JSON file per run in the schema of Every Eval Ever 0.3.0, with its `uncertainty` (arXiv 2606.14516)."""
    found = {}
    for run, own in _grouped(rows, "run_id"):
        record = _record(run, own, about)
        found[f"{_file_name(run)}.json"] = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    return found


def _record(run: str, rows: list[Mapping[str, Any]], about: About) -> dict[str, Any]:
    first = rows[0]
    stamp = str(about.retrieved)
    details = {
        name: str(first[name]) for name in _DETAILS if not render.is_missing(first.get(name)) and first.get(name)
    }
    return {
        "schema_version": EEE_VERSION,
        "evaluation_id": f"{first['task']}/{first['label']}/{stamp}",
        "evaluation_timestamp": first["started"],
        "retrieved_timestamp": stamp,
        "source_metadata": {
            "source_name": f"run {run}",
            "source_type": "evaluation_run",
            "source_organization_name": about.organization,
            "evaluator_relationship": about.relationship,
        },
        "eval_library": {"name": "multiway-harness", "version": first["package_version"] or "unknown"},
        "model_info": {
            "name": first["label"],
            "id": first["released"] or first["label"],
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "open_weights" if first["released"] else "unknown",
                **details,
            },
        },
        "evaluation_results": [_result(row) for row in rows],
    }


_DETAILS = (
    "backbone", "weights", "weights_sha256", "finetuned_sha256", "parameters", "resolution", "recipe", "recipe_altered",
    "recipe_sha256", "seed", "trained_on", "precision", "device", "libraries", "package_commit",
)  # fmt: skip


def _result(row: Mapping[str, Any]) -> dict[str, Any]:
    bounded = row["unit"] == "percent"
    details = {"score": row["value"], "details": {"notes": _notes(row)}}
    if row["low"] is not None:
        uncertainty = {
            "confidence_interval": {
                "lower": row["low"], "upper": row["high"], "confidence_level": LEVEL,
                "method": "percentile bootstrap" if row["bootstrap_draws"] else "Wilson score",
            },
            "num_samples": int(row["n"]),
        }  # fmt: skip
        if row["bootstrap_draws"]:
            uncertainty["num_bootstrap_samples"] = int(row["bootstrap_draws"])
        details["uncertainty"] = uncertainty
    data = {name: str(row[name]) for name in ("split", "data_sha256", "subset") if row.get(name)}
    return {
        "evaluation_result_id": f"{row['task']}/{row['split']}/{row['metric']}",
        "evaluation_name": f"{row['task']} {row['split']}",
        "source_data": {"dataset_name": row["dataset"], "source_type": "other", "additional_details": data},
        "evaluation_timestamp": row["started"],
        "metric_config": {
            "metric_id": f"{row['task']}.{row['metric']}",
            "metric_name": row["metric"],
            "metric_unit": row["unit"],
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 100.0 if bounded else "Infinity",
            "additional_details": {"metric_version": str(row["metric_version"])},
        },
        "score_details": details,
    }


def long_csv(rows: pd.DataFrame, about: About) -> dict[str, str]:
    """A line per metric of a run, all columns."""
    frame = rows.drop(columns=["label", FILE], errors="ignore")
    return {"results.csv": render.csv_text(list(frame.columns), _cells(frame))}


def wide_csv(rows: pd.DataFrame, about: About) -> dict[str, str]:
    """A line per run, three columns per metric: the value and the ends of its interval."""
    names = ["label", "run_id", "backbone", "weights", "recipe", "recipe_altered", "seed", "started"]
    lines: dict[str, dict[str, Any]] = {}
    for row in render.records(rows):
        line = lines.setdefault(row["run_id"], {name: row[name] for name in names})
        place = f"{row['task']} {row['split']} {row['metric']}"
        line |= {place: row["value"], f"{place} low": row["low"], f"{place} high": row["high"]}
    columns = list(dict.fromkeys(name for line in lines.values() for name in line))
    table = [[line.get(name) for name in columns] for line in lines.values()]
    return {"wide.csv": render.csv_text(columns, table)}


FORMATS: dict[str, Callable[[pd.DataFrame, About], dict[str, str]]] = {
    "eval-results": eval_results,
    "model-index": model_index,
    "every-eval-ever": every_eval_ever,
    "long-csv": long_csv,
    "wide-csv": wide_csv,
}


def export(form: str, frame: pd.DataFrame, about: About) -> dict[str, str]:
    """The files of a format, as texts by name; rows without a value are in the CSV files alone.

    Args:
        frame: as `leaderboards.results.gather` reads it.
    """
    rows = frame if form.endswith("csv") else frame[frame["value"].notna()]
    return FORMATS[form](rows.assign(label=labels(rows)), about)


def _models(rows: pd.DataFrame, about: About) -> list[tuple[str, list[Mapping[str, Any]]]]:
    return _grouped(rows[rows["task"].isin(list(about.hub))], "label")


def _grouped(rows: pd.DataFrame, by: str) -> list[tuple[str, list[Mapping[str, Any]]]]:
    return [(str(name), render.records(own)) for name, own in rows.groupby(by, sort=False)]


def _notes(row: Mapping[str, Any]) -> str:
    parts = [f"{row['split']}, {row['unit']}"]
    if row["low"] is not None:
        parts.append(f"95% interval {row['low']:.3f} to {row['high']:.3f} over {row['n']} samples")
    parts += [f"altered recipe: {row['recipe_altered']}"] if row["recipe_altered"] else []
    parts += [f"part of the split: {row['subset']}"] if row.get("subset") else []
    parts += [f"leak: {row['leak']}"] if row.get("leak") else []
    parts += [f"scored by {row['server']}"] if row.get("server") else []
    return "; ".join(parts)


def _cells(frame: pd.DataFrame) -> list[tuple]:
    return list(zip(*(frame[name].to_numpy(dtype=object) for name in frame), strict=True))


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"


def _yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
