"""Top floor: runs experiments and keeps their results. The functions of `harness.api`, loaded when first used."""

from typing import Any

__all__ = ["check", "doctor", "predict", "run", "score", "submit"]


def __getattr__(name: str) -> Any:
    if name == "doctor":
        from harness.doctor import examine

        return examine
    if name in __all__:
        from harness import api

        return getattr(api, name)
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
