"""Text to the token ids of BEiT-3: a sentencepiece model with XLM-R's id mapping.

The official code reads `beit3.spm` with transformers' `XLMRobertaTokenizer`. That class gives the ids below up to
transformers 4.57; from 5.0 on it reads no sentencepiece file any more and, given one as `vocab_file`, silently maps
every piece to `<unk>`. So the file is read with sentencepiece itself, and no transformers is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.errors import InputError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPARE_ROWS = 64  # the released embeddings have 8 rows more than the tokenizer has ids


class Tokenizer:
    """Token ids of texts: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, piece i is i + 1, `<mask>` is pieces + 1.

    A tokenizer can be sent to other processes: it reads its file again there.

    Raises:
        InputError: the file is absent or not a sentencepiece model.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        len(self)  # a wrong file is reported now

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    @cached_property
    def _pieces(self) -> SentencePieceProcessor:
        from sentencepiece import SentencePieceProcessor

        if not self.path.is_file():
            raise InputError(f"No tokenizer file at {self.path}. Give the sentencepiece model (beit3.spm).")
        try:
            return SentencePieceProcessor(model_file=str(self.path))
        except Exception as error:  # whatever its library makes of a damaged file
            raise InputError(
                f"{self.path} is not a sentencepiece model. Give the file that came with the weights (beit3.spm), "
                "downloaded whole."
            ) from error

    def __len__(self) -> int:
        """Ids in all, special ones included: 64,002 for the released tokenizer."""
        return self._pieces.get_piece_size() + 2

    @property
    def mask(self) -> int:
        """The id of `<mask>`, the last one."""
        return len(self) - 1

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without `<s>` and `</s>`. The text is taken as it is, special tokens in it too."""
        return [piece + 1 if piece else UNK for piece in self._pieces.encode(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special ones, unknown ones included, leave nothing."""
        return self._pieces.decode([token - 1 for token in ids if UNK < token < self.mask])

    def require_fit(self, vocab_size: int) -> None:
        """Check that this is a tokenizer for an embedding of `vocab_size` rows.

        Raises:
            InputError: it has more ids than there are rows, or so few that the weights belong to another one.
        """
        if not vocab_size - SPARE_ROWS <= len(self) <= vocab_size:
            raise InputError(
                f"The tokenizer {self.path} has {len(self):,} ids, the backbone's text embedding {vocab_size:,} rows: "
                "they do not belong together. Give the tokenizer that came with the weights (--tokenizer FILE)."
            )
