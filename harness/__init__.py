"""Run experiments and keep their results. The functions are imported when they are first used."""

from importlib import import_module
from typing import Any

__all__ = ["check", "doctor", "predict", "run", "score", "submit"]
_HOMES = {
    "check": "harness.checks:check",
    "doctor": "harness.doctor:examine",
    "score": "harness.evaluation:score",
    "submit": "harness.evaluation:submit",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    module, _, function = _HOMES.get(name, f"harness.api:{name}").partition(":")
    return getattr(import_module(module), function)
