from __future__ import annotations

import argparse

from harness.answer import Answer, table

HELP = "list tasks or backbones"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=("tasks", "backbones"), default="tasks")


def run(args: argparse.Namespace) -> Answer:
    return _backbones() if args.what == "backbones" else _tasks()


def _tasks() -> Answer:
    import tasks
    from backbones.errors import InputError

    rows, data = [], []
    for name in tasks.names():
        try:
            adapter = tasks.get(name)
        except InputError as error:  # a broken third-party task is shown with its reason
            rows.append((name, "BROKEN", "", "", str(error)))
            data.append({"name": name, "error": str(error)})
            continue
        primary = next(metric.name for metric in adapter.metrics if metric.primary)
        splits = ", ".join(adapter.splits)
        rows.append((name, adapter.dataset, splits, primary, ", ".join(adapter.recipes)))
        data.append(
            {
                "name": name,
                "dataset": adapter.dataset,
                "splits": list(adapter.splits),
                "metrics": [metric.name for metric in adapter.metrics],
                "primary": primary,
                "recipes": list(adapter.recipes),
            }
        )
    show = table("Tasks", ("name", "data set", "splits", "primary metric", "recipes"), rows)
    return Answer(data, show, ok=not any("error" in entry for entry in data))


def _backbones() -> Answer:
    from dataclasses import asdict

    from backbones.config import CONFIGS

    rows = [
        (name, str(c.layers), str(c.dim), str(c.heads), str(c.patch_size), str(c.image_size), c.attention)
        for name, c in CONFIGS.items()
    ]
    columns = ("name", "layers", "width", "heads", "patch", "image", "attention")
    return Answer(
        {name: asdict(c) for name, c in CONFIGS.items()},
        table("Backbones (and timm/NAME for tasks that see images only)", columns, rows),
    )
