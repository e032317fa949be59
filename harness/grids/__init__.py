"""Grids of ablation runs: plan the cells, carry each out once, anywhere (`plan`, `run_cell`)."""

from harness.grids.cell import run_cell
from harness.grids.planning import Plan, plan

__all__ = ["Plan", "plan", "run_cell"]
