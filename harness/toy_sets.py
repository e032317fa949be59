"""Names of toy data sets, and the sets that tasks need."""

from __future__ import annotations

from collections.abc import Iterable

from backbones.errors import unknown
from tasks import registry, toy


def sets(names: Iterable[str]) -> list[str]:
    """The toy data sets of these names, of sets or of tasks; a task needs the folder that it trains on too.

    Raises:
        UsageError: a name that is neither.
    """
    found: list[str] = []
    for name in names:
        if name in registry.BUILT_IN:
            own = [key for key, form in toy.FOLDERS.items() if registry.get(name).folder == form.FOLDER]
            found += [*own, *(["coco"] if name == "nocaps" else [])]
        elif name in toy.FOLDERS:
            found.append(name)
        else:
            raise unknown("toy data set", name, {*toy.FOLDERS, *registry.BUILT_IN})
    return list(dict.fromkeys(found))
