"""Modules that the process of `tests/support/processes.py` imports, with one thread, before it forks."""

import torch

import harness.api  # noqa: F401
import tasks

torch.set_num_threads(1)
for name in tasks.names():
    tasks.get(name)
