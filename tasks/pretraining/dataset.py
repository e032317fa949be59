"""Items of pretraining: images, texts and pairs with their masks, and one of each kind for every place in a batch.

Everything random is drawn from PyTorch's generator, which the engine seeds from (seed, epoch, index) before each item:
crops and masks are functions of these counters, wherever a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from tasks.adapter import Sample
from tasks.common.text import TextField, pad
from tasks.pretraining.masking import BlockMasking, PairMasking, TokenMasking, generator
from tasks.pretraining.targets import normalised
from tasks.pretraining.views import Views, opened

Item = dict[str, Tensor]


def _generator() -> np.random.Generator:
    """Random numbers of the item that is being made."""
    return generator(int(torch.randint(1 << 62, ())))


def _pictures(sample: Sample, views: Views) -> Item:
    """`pixels`, and `view` where the target takes another size."""
    return dict(zip(("pixels", "view"), views(opened(sample.inputs)), strict=False))


class Images(Dataset):
    """`pixels` uint8 [3, side, side], perhaps `view`, and with a masking `masked_patches` bool [patches]."""

    def __init__(self, samples: Sequence[Sample], views: Views, masking: BlockMasking | None = None) -> None:
        self.samples = samples
        self._views = views
        self._masking = masking

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        item = _pictures(self.samples[index], self._views)
        if self._masking:
            item["masked_patches"] = torch.from_numpy(self._masking.mask(_generator())).flatten()
        return item


class Texts(Dataset):
    """`text` int64 [length] with masked tokens replaced, `target` without, `masked_tokens` bool [length].

    Args:
        rows: int [rows, length], see `sources.read_texts`.
        mask: the id of `<mask>`.
    """

    def __init__(self, rows: np.ndarray, masking: TokenMasking, *, mask: int) -> None:
        self._rows = rows
        self._masking = masking
        self._mask = mask

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Item:
        ids = self._rows[index].astype(np.int64)
        return _masked(torch.from_numpy(ids), self._masking.mask(ids, _generator()), self._mask)


class Pairs(Dataset):
    """The fields of an image and of a text, masked as `PairMasking` says."""

    def __init__(self, samples: Sequence[Sample], views: Views, text: TextField, masking: PairMasking) -> None:
        self.samples = samples
        self._views = views
        self._text = text
        self._masking = masking

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        sample = self.samples[index]
        ids = self._text(sample.inputs["text"], of=sample.id)
        masks = self._masking.masks(ids.numpy(), _generator())
        return {
            **_pictures(sample, self._views),
            "masked_patches": torch.from_numpy(masks.image).flatten(),
            **_masked(ids, masks.text, self._text.tokenizer.mask),
        }

    @staticmethod
    def collate(items: Sequence[Item]) -> dict[str, Tensor]:
        """A batch whose texts are padded to its longest; nothing is masked in padding."""
        images = ("pixels", "view", "masked_patches")
        batch = default_collate([{name: item[name] for name in images if name in item} for item in items])
        batch |= pad([item["text"] for item in items])
        batch["target"] = pad([item["target"] for item in items])["text"]
        masked = [item["masked_tokens"] for item in items]
        batch["masked_tokens"] = torch.nn.utils.rnn.pad_sequence(masked, batch_first=True)
        return batch


def _masked(ids: Tensor, masked: np.ndarray, mask: int) -> Item:
    where = torch.from_numpy(masked)
    return {"text": ids.masked_fill(where, mask), "target": ids, "masked_tokens": where}


class Contrasted(Dataset):
    """Pairs as a dual encoder takes them: `image` float32 [3, side, side] and `text` int64 [length]."""

    def __init__(self, samples: Sequence[Sample], views: Views, text: TextField) -> None:
        self.samples = samples
        self._views = views
        self._text = text

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        sample = self.samples[index]
        (pixels,) = self._views(opened(sample.inputs))
        return {"image": normalised(pixels), "text": self._text(sample.inputs["text"], of=sample.id)}

    @staticmethod
    def collate(items: Sequence[Item]) -> dict[str, Tensor]:
        """A batch, its texts padded to the longest."""
        return {"image": torch.stack([item["image"] for item in items]), **pad([item["text"] for item in items])}


class Mixed(Dataset):
    """One sample of each kind of data as one item, by kind.

    An epoch is a pass over the largest kind. A smaller one is gone through as often as it fits; where that leaves a
    part of a pass, its first samples are taken once more.
    """

    def __init__(self, kinds: Mapping[str, Dataset]) -> None:
        self.kinds = dict(kinds)

    def __len__(self) -> int:
        return max(map(len, self.kinds.values()))

    def __getitem__(self, index: int) -> dict[str, Item]:
        return {kind: items[index % len(items)] for kind, items in self.kinds.items()}

    def collate(self, items: Sequence[Mapping[str, Item]]) -> dict[str, dict[str, Tensor]]:
        """A batch of each kind."""
        return {
            kind: getattr(own, "collate", default_collate)([item[kind] for item in items])
            for kind, own in self.kinds.items()
        }
