"""Token ids of texts, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import default_collate

from backbones.errors import InputError
from backbones.tokenizer import BOS, EOS, PAD, Tokenizer

Text = str | Sequence[int]  # raw, or the token ids of an official index file (without <s> and </s>)


@dataclass(frozen=True, kw_only=True)
class TextField:
    """Text to `<s>` ids `</s>`, int64 of at most `length` tokens; what does not fit is cut before `</s>`."""

    tokenizer: Tokenizer
    length: int

    def __call__(self, text: Text, *, of: str) -> Tensor:
        """Token ids of one text.

        Args:
            of: the sample's id, for messages.

        Raises:
            InputError: an empty text, ids of another tokenizer, or a text of which no piece is known.
        """
        ids = self.tokenizer.encode(text) if isinstance(text, str) else list(text)
        if not ids:
            raise InputError(f"The text of {of} is empty. Fix the annotation, or leave the sample out.")
        if max(ids) >= len(self.tokenizer) or min(ids) < 0:
            raise InputError(
                f"The index file has token id {max(ids)} in {of}, and the tokenizer {self.tokenizer.path} ends at "
                f"{len(self.tokenizer) - 1}: the index was made with another one. Give that (--tokenizer FILE), or "
                "remove the index files to read the original annotations."
            )
        if not self.tokenizer.decode(ids).strip():  # the mark of a word's beginning is a piece, and known
            raise InputError(
                f"The tokenizer {self.tokenizer.path} knows no piece of the text of {of}: {str(text)[:80]!r}. Give the "
                "tokenizer that came with the weights (--tokenizer FILE), or fix the text."
            )
        return torch.tensor([BOS, *ids[: self.length - 2], EOS])


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of items with a "text": PyTorch's collation, the token ids padded to the longest."""
    others = [{name: value for name, value in item.items() if name != "text"} for item in items]
    return {**default_collate(others), **pad([item["text"] for item in items])}


def pad(texts: Sequence[Tensor]) -> dict[str, Tensor]:
    """A batch of token ids, padded to its longest: `text` int64 [batch, length], and `text_padding`, true = padding.

    `text_padding`, bool [batch, length], is left out where nothing is padded: without a mask attention is faster.
    """
    text = pad_sequence(list(texts), batch_first=True, padding_value=PAD)
    lengths = torch.tensor([len(ids) for ids in texts])
    padding = torch.arange(text.shape[1]) >= lengths[:, None]
    return {"text": text, "text_padding": padding} if padding.any() else {"text": text}
