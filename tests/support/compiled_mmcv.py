"""A stand-in for `mmcv._ext`, the compiled operators of a full mmcv, in a process that has not imported mmcv yet."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType


def provide(**operators: Callable) -> None:
    """Have `import mmcv._ext` find a module with every operator: those given, and others that return "compiled"."""
    sys.meta_path.insert(0, _Finder(operators))


class _Compiled(ModuleType):
    def __getattr__(self, name: str) -> Callable[..., str]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **options: "compiled"


class _Finder:
    """Finder and loader of the one module."""

    def __init__(self, operators: Mapping[str, Callable]) -> None:
        self._operators = operators

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == "mmcv._ext" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Compiled(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(self._operators)
