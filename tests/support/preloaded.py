"""Modules that the process of `tests/support/processes.py` imports, with one thread, before it forks."""

import torch

import harness.api  # noqa: F401
import tasks.captioning.model
import tasks.classification.model
import tasks.detection.model
import tasks.reasoning.model
import tasks.retrieval.model
import tasks.segmentation.model
import tasks.vqa.model

torch.set_num_threads(1)
for name in tasks.names():
    tasks.get(name)
