"""One file per benchmark, found by name.

import tasks
tasks.names()
tasks.get("imagenet")
"""

from tasks.adapter import Finding, Metric, Sample, Split, TaskAdapter
from tasks.recipe import Recipe
from tasks.registry import get, names
from tasks.statistics import Measurement

__all__ = ["Finding", "Measurement", "Metric", "Recipe", "Sample", "Split", "TaskAdapter", "get", "names"]
