"""Names of classes as texts.

A class folder that is a WordNet synset (n01440764) has the synset's lemmas, joined with ", " (as the authors had them,
unilm issue 965), from the list that timm brings; any other folder's own name is the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

SYNSET = re.compile(r"n\d{8}")
BETWEEN = "|"  # prompts


def texts(classes: Sequence[str]) -> list[str]:
    """The text of each class folder's name."""
    return [_lemmas().get(name, name) if SYNSET.fullmatch(name) else name.replace("_", " ") for name in classes]


def prompts(template: str) -> list[str]:
    """The prompts of a recipe's field, each with {} for the class's text."""
    return template.split(BETWEEN)


@cache
def _lemmas() -> dict[str, str]:
    """Lemmas by synset, of ImageNet-1K and ImageNet-21K."""
    from timm.data import ImageNetInfo

    lists = [ImageNetInfo(name) for name in ("imagenet-22k", "imagenet-1k")]  # one synset is in the latter alone
    return {synset: info.label_name_to_description(synset) for info in lists for synset in info.label_names()}
