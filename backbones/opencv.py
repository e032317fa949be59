"""A stand-in for OpenCV on machines where its library cannot be loaded.

mmengine and mmcv import `cv2` and require the package opencv-python, whose library needs libGL, libxcb and glib; bare
Debian, most cluster images and containers lack them. Nothing in this project calls OpenCV, so there the import
succeeds with a module whose constants exist and whose functions raise an error that says how to install the real one.
Where OpenCV loads it is used as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Never

from backbones.errors import InputError
from backbones.packages import install_command

NAME = "cv2"
HEADLESS = "opencv-python-headless"


class StandIn(ModuleType):
    """The module `cv2` without its library: mmengine and mmcv look up constants and little else on import."""

    __version__ = "0"

    def __init__(self, reason: str) -> None:
        super().__init__(NAME, __doc__)
        self._reason = reason

    def setNumThreads(self, _: int) -> None:
        """Accept a number of threads; mmengine's Runner sets it at every start."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # attributes that Python itself looks for in a module
            raise AttributeError(name)
        return 0 if name.isupper() else self._absent(name)

    def _absent(self, name: str) -> Callable[..., Never]:
        def absent(*_: object, **__: object) -> Never:
            install = install_command(HEADLESS, replacing=("opencv-python", HEADLESS))
            raise InputError(
                f"OpenCV's function {name} was called, but OpenCV cannot be loaded here ({self._reason}). Install the "
                f"build that needs no system libraries: {install}"
            )

        return absent


class _Loader(Loader):
    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        path = list(sys.path)  # OpenCV's own start-up changes it
        _Finder.busy = True  # that start-up imports the compiled library under the same name
        try:
            self._real.exec_module(module)
        except ImportError as error:
            stand_in = StandIn(str(error))
            stand_in.__spec__ = module.__spec__
            sys.modules[NAME] = stand_in  # the import statement returns this entry
            sys.path[:] = path
        finally:
            _Finder.busy = False


class _Finder(MetaPathFinder):
    busy = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != NAME or self.busy:
            return None
        spec = PathFinder.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def provide() -> None:
    """Let `import cv2` succeed where OpenCV's library cannot be loaded; call before mmengine is imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def reason() -> str:
    """The error that kept OpenCV from loading; empty where it loads."""
    import cv2

    return cv2._reason if isinstance(cv2, StandIn) else ""
