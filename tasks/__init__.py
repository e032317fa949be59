"""One file per benchmark, found by name.

import tasks
tasks.names()
tasks.get("imagenet")
"""

from tasks.adapter import Finding, Metric, Sample, Split, TaskAdapter
from tasks.recipe import Recipe
from tasks.registry import get, names

__all__ = ["Finding", "Metric", "Recipe", "Sample", "Split", "TaskAdapter", "get", "names"]
