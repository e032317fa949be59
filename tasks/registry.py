"""Find adapters: built-in ones by name, third-party ones by entry point or by file path."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from backbones.errors import InputError, unknown
from tasks.adapter import TaskAdapter

GROUP = "harness.tasks"
BUILT_IN = {
    "imagenet": "tasks.classification.imagenet:ImageNet",
    "ade20k": "tasks.segmentation.ade20k:ADE20K",
    "coco_detection": "tasks.detection.coco_detection:CocoDetection",
    "nlvr2": "tasks.reasoning.nlvr2:NLVR2",
    "vqav2": "tasks.vqa.vqav2:VQAv2",
    "coco_captioning": "tasks.captioning.coco_captioning:CocoCaptioning",
    "nocaps": "tasks.captioning.nocaps:NoCaps",
    "coco_retrieval": "tasks.retrieval.coco_retrieval:CocoRetrieval",
    "coco_zero_shot": "tasks.retrieval.coco_retrieval:CocoZeroShot",
    "flickr30k_retrieval": "tasks.retrieval.flickr30k:Flickr30kRetrieval",
    "flickr30k_zero_shot": "tasks.retrieval.flickr30k:Flickr30kZeroShot",
}


def names() -> list[str]:
    """Built-in tasks in the paper's order, then those of installed packages."""
    return [*BUILT_IN, *sorted(entry.name for entry in entry_points(group=GROUP) if entry.name not in BUILT_IN)]


def get(name: str) -> TaskAdapter:
    """The adapter of a task.

    Args:
        name: a built-in task, the name of an entry point in the group `harness.tasks`, or the path of a Python
            file that defines one adapter class (`path/to/task.py`, or `path/to/task.py:Class` of several).

    Raises:
        UsageError: unknown name; the message has the nearest names.
        InputError: a third-party task that fails to import; the message has the reason.
    """
    if Path(name.partition(":")[0]).suffix == ".py":
        return _from_file(name)
    if name in BUILT_IN:
        return EntryPoint(name, BUILT_IN[name], GROUP).load()()
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return _from_entry_point(entry)
    raise unknown("task", name, names(), hint="A task of your own: the path of its .py file, or an entry point.")


def _from_entry_point(entry: EntryPoint) -> TaskAdapter:
    try:
        adapter = entry.load()
    except (Exception, SystemExit) as error:  # whatever a third party's module raises is the answer
        raise InputError(
            f"Task {entry.name} (entry point {entry.value}) cannot be imported: {type(error).__name__}: {error}. "
            "Fix or uninstall that package."
        ) from error
    return _instance(adapter, entry.value)


def _from_file(name: str) -> TaskAdapter:
    path_text, _, class_name = name.partition(":")
    path = Path(path_text)
    if not path.is_file():
        raise InputError(f"No task file at {path}.")
    module = _import_file(path)
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, TaskAdapter) and value.__module__ == module.__name__
    ]
    if class_name:
        own = [value for value in own if value.__name__ == class_name]
    if len(own) != 1:
        found = ", ".join(value.__name__ for value in own) or "none"
        raise InputError(f"{path} must define one TaskAdapter (found: {found}). Name it as {path}:Class.")
    return _instance(own[0], str(path))


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"harness_task_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # see _from_entry_point
        raise InputError(f"Task file {path} cannot be imported: {type(error).__name__}: {error}.") from error
    return module


def _instance(adapter: object, origin: str) -> TaskAdapter:
    if not (inspect.isclass(adapter) and issubclass(adapter, TaskAdapter)):
        raise InputError(f"{origin} is not a TaskAdapter class. See tasks/adapter.py for the contract.")
    if missing := sorted(adapter.__abstractmethods__):
        raise InputError(f"{origin} lacks {', '.join(missing)}. See tasks/adapter.py for the contract.")
    return adapter()
