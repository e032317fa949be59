from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.output import CommandOutput, table

if TYPE_CHECKING:
    from rich.console import Console

HELP = "list tasks, backbones, recipes, tables or grids"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", choices=("tasks", "backbones", "recipes", "tables", "grids"), default="tasks"
    )
    parser.add_argument("task", nargs="?", metavar="TASK", help="whose recipes; those of every task when not given")


def run(args: argparse.Namespace) -> CommandOutput:
    from backbones.errors import UsageError

    if args.what == "recipes":
        return _recipes(args.task)
    if args.task is not None:
        raise UsageError(f"`harness list {args.what}` has no TASK. Recipes of one: harness list recipes {args.task}.")
    return {"backbones": _backbones, "tables": _tables, "grids": _grids, "tasks": _tasks}[args.what]()


def _tasks() -> CommandOutput:
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
        primary = adapter.primary.name
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
                "predictions": adapter.prediction_forms,
            }
        )
    tasks_table = table("Tasks", ("name", "data set", "splits", "primary metric", "recipes"), rows)

    def show(console: Console) -> None:
        tasks_table(console)
        console.print("Predictions that `harness score` reads:", markup=False)
        for entry in data:
            if "predictions" in entry:
                console.print(f"  {entry['name']}: {entry['predictions']}", markup=False, soft_wrap=True)

    return CommandOutput(data, show, ok=not any("error" in entry for entry in data))


def _recipes(task: str | None) -> CommandOutput:
    from dataclasses import asdict

    import tasks

    recipes = {name: tasks.get(name).recipes for name in ([task] if task else tasks.names())}
    data = {name: {key: asdict(recipe) for key, recipe in own.items()} for name, own in recipes.items()}
    shows = [_show_recipes(name, own) for name, own in data.items()]

    def show(console: Console) -> None:
        for each in shows:
            each(console)

    return CommandOutput(data, show)


def _show_recipes(task: str, recipes: Mapping[str, Mapping[str, Any]]) -> Callable[[Console], None]:
    """A rendering of a task's recipes: their fields side by side, then where they are from and differ from that."""
    described = ("name", "source", "deviations")
    fields = [name for name in next(iter(recipes.values())) if name not in described]
    rows = [(name, *(_value(recipe[name]) for recipe in recipes.values())) for name in fields]
    drawn = table(f"Recipes of {task}", ("field", *recipes), rows)

    def show(console: Console) -> None:
        drawn(console)
        for key, recipe in recipes.items():
            console.print(f"{key} ({recipe['name']}): {recipe['source']}", markup=False)
            for deviation in recipe["deviations"]:
                console.print(f"  - {deviation}", markup=False)
        console.print()

    return show


def _value(value: Any) -> str:
    """A field's value; tuples without spaces, and numbers in them with four digits at most."""
    if isinstance(value, tuple):
        return ", ".join(map(_value, value)) or "()"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _backbones() -> CommandOutput:
    from dataclasses import asdict

    from backbones.config import CONFIGS

    rows = [
        (name, str(c.layers), str(c.dim), str(c.heads), str(c.patch_size), str(c.image_size), c.attention)
        for name, c in CONFIGS.items()
    ]
    columns = ("name", "layers", "width", "heads", "patch", "image", "attention")
    return CommandOutput(
        {name: asdict(c) for name, c in CONFIGS.items()},
        table("Backbones (and timm/NAME for tasks that see images only)", columns, rows),
    )


def _tables() -> CommandOutput:
    from leaderboards import published, tables

    specs = [tables.load(name) for name in tables.names()]
    counts = [sum(spec.selects(row) for row in published.rows()) for spec in specs]
    rows = [(spec.name, spec.title, f"{count}") for spec, count in zip(specs, counts, strict=True)]
    drawn = table("Tables", ("name", "title", "published numbers"), rows)

    def show(console: Console) -> None:
        drawn(console)
        console.print(f"`harness table FILE` takes one of your own; these are in {tables.FOLDER}.", markup=False)

    data = [
        {"name": spec.name, "title": spec.title, "published": count} for spec, count in zip(specs, counts, strict=True)
    ]
    return CommandOutput(data, show)


def _grids() -> CommandOutput:
    from leaderboards import grids

    loaded = [grids.load(name) for name in grids.names()]
    data = [
        {
            "name": grid.name,
            "title": grid.title,
            "rows": [row.name for row in grid.run_rows],
            "columns": [column.name for column in grid.columns],
            "seeds": list(grid.seeds),
        }
        for grid in loaded
    ]
    rows = [(own["name"], own["title"], ", ".join(own["rows"]), ", ".join(own["columns"])) for own in data]
    drawn = table("Grids", ("name", "title", "rows", "columns"), rows)

    def show(console: Console) -> None:
        drawn(console)
        console.print(f"`harness ablate FILE` takes one of your own; these are in {grids.FOLDER}.", markup=False)

    return CommandOutput(data, show)
