"""Beam search over a key/value cache, for a batch of images at once.

The rules are those of the official code (unilm beit3/engine_for_finetuning.py, CaptioningHandler, and utils.py,
BeamHypotheses); the computation is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.cache import KeyValueCache
from backbones.errors import UsageError
from backbones.tokenizer import BOS, EOS, PAD
from tasks.common.heads import in_float32


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """Parameters of the search.

    beams: hypotheses that are followed at once.
    length_penalty: a hypothesis of n tokens (`<s>` and the open slot counted) is worth its log-probability / n^this.
    max_length: tokens of a caption, `<s>` and `</s>` counted.
    """

    beams: int = 3
    length_penalty: float = 0.6
    max_length: int = 64

    def __post_init__(self) -> None:
        for name, least in (("beams", 1), ("max_length", 3)):
            if getattr(self, name) < least:
                raise UsageError(f"A beam search needs {name} of {least} or more, not {getattr(self, name)}.")


CANDIDATES_PER_BEAM = 3  # the official TOPN_PER_BEAM: enough that ended ones never leave a beam empty


def one_way_mask(image_tokens: int, text_tokens: int, *, device: torch.device) -> Tensor:
    """Blocked pairs of query and key, bool [tokens, tokens].

    Image tokens attend to the image, a word attends to the image, to earlier words and to itself.
    """
    tokens = image_tokens + text_tokens
    blocked = torch.zeros(tokens, tokens, dtype=torch.bool, device=device)
    blocked[:, image_tokens:] = torch.ones(tokens, text_tokens, dtype=torch.bool, device=device).triu(1 - image_tokens)
    return blocked


class Decoder:
    """Beam search for a batch of images, as tensor operations without a loop over hypotheses.

    An image is encoded once, not once per beam: the beams of an image are side by side in its text, each attending to
    the image, its own earlier words and its own open slot (`<mask>`), whose logits are the next word's. Words stay
    where they were cached; when a beam continues another, only the record of which words are whose is rearranged.

    Keys in the cache: image and `<s>` (`prefix` of them), then the words of step 1 of all beams, of step 2, …
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, search: BeamSearch, *, mask: int) -> None:
        self._backbone = backbone
        self._head = head
        self._search = search
        self._mask = mask

    def __call__(self, image: Tensor) -> Tensor:
        """Images [batch, 3, size, size] -> captions, int64 [batch, max length]: `<s>` words `</s>`, then padding."""
        search, beams = self._search, self._search.beams
        batch, prefix = len(image), self._backbone.image_tokens(image) + 1
        cache = KeyValueCache(prefix + beams * search.max_length)
        words = torch.full((batch, beams, search.max_length), PAD, device=image.device)  # int64
        words[:, :, 0] = BOS
        scores = torch.full((batch, beams), -1e9, device=image.device)  # log-probabilities
        scores[:, 0] = 0  # all beams start alike, so only the first one may be continued
        seen = torch.zeros(batch, beams, 0, dtype=torch.bool, device=image.device)  # [batch, beams, cached words]
        best = _Best(batch, search, device=image.device)
        for length in range(2, search.max_length):  # tokens of a hypothesis, the open slot counted
            if length == 2:
                logits = self._start(image, cache).expand(-1, beams, -1)  # [batch, beams, vocabulary]
            else:
                own = torch.eye(beams, dtype=torch.bool, device=image.device).expand(batch, -1, -1)
                seen = torch.cat([seen, own], 2)  # each beam sees the word that it chose last
                logits = self._advance(words[:, :, length - 2], length, seen, cache, prefix)
            candidates = _candidates(scores[:, :, None] + logits.log_softmax(-1))  # [batch, 3 × beams] three times
            keep = best.update(candidates, words, length)  # [batch, beams], indices of candidates
            if best.done.all():
                break
            scores, parent, word = (values.gather(1, keep) for values in candidates)  # [batch, beams] each
            words = words.gather(1, parent[:, :, None].expand_as(words))
            words[:, :, length - 1] = word
            seen = seen.gather(1, parent[:, :, None].expand_as(seen))
        return best.words

    def _start(self, image: Tensor, cache: KeyValueCache) -> Tensor:
        """Logits of the first word: float32 [batch, 1, vocabulary]."""
        text = torch.tensor([BOS, self._mask], device=image.device).expand(len(image), 2)
        blocked = one_way_mask(self._backbone.image_tokens(image), 2, device=image.device)
        encoded = self._backbone(image, text, attn_mask=blocked, cache=cache)
        cache.truncate(len(cache) - 1)
        return in_float32(self._head, encoded.text[:, 1:])

    def _advance(self, word: Tensor, length: int, seen: Tensor, cache: KeyValueCache, prefix: int) -> Tensor:
        """Logits after each beam's last word [batch, beams]: float32 [batch, beams, vocabulary].

        seen: bool [batch, beams, cached words and these], which of the words belong to a beam.
        """
        batch, beams = word.shape
        # The beams' last words, then their open slots: [batch, 2 × beams].
        text = torch.cat([word, torch.full_like(word, self._mask)], dim=1)
        positions = torch.arange(length - 2, length, device=word.device).repeat_interleave(beams)  # [2 × beams]
        nothing = seen.new_zeros(batch, beams, beams)
        own = torch.eye(beams, dtype=torch.bool, device=word.device).expand(batch, -1, -1)
        # Rows are queries (words, slots), columns keys (words so far, slots): [batch, 2 × beams, words + beams].
        visible = torch.cat([torch.cat([seen, nothing], 2), torch.cat([seen, own], 2)], 1)
        blocked = F.pad(~visible, (prefix, 0), value=False)  # the image and <s> are visible to all
        encoded = self._backbone(text=text, text_positions=positions, attn_mask=blocked, cache=cache)
        cache.truncate(len(cache) - beams)
        return in_float32(self._head, encoded.tokens[:, beams:])


def _candidates(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of all beams, best first: score, beam and word, each [batch, 3 × beams].

    Args:
        scores: float [batch, beams, vocabulary].
    """
    batch, beams, vocabulary = scores.shape
    count = min(CANDIDATES_PER_BEAM * beams, beams * vocabulary)
    score, index = scores.view(batch, -1).topk(count, dim=1)
    return score, index // vocabulary, index % vocabulary


class _Best:
    """The best ended hypothesis of each image so far.

    words: int64 [batch, max length].
    done: bool [batch], no beam can end better than what the image has.
    """

    def __init__(self, batch: int, search: BeamSearch, *, device: torch.device) -> None:
        self._search = search
        self._value = torch.full((batch,), float("-inf"), dtype=torch.float64, device=device)
        self.words = torch.full((batch, search.max_length), PAD, device=device)
        self.done = torch.zeros(batch, dtype=torch.bool, device=device)

    def update(self, candidates: tuple[Tensor, Tensor, Tensor], words: Tensor, length: int) -> Tensor:
        """Keep hypotheses that end here; returns the candidates that go on, int64 [batch, beams].

        Candidates are considered from the best on until as many as there are beams go on; those that end before
        are ended hypotheses. At the length limit all end, without the word that would be too long.

        Args:
            candidates: see `_candidates`.
            words: int64 [batch, beams, max length], of the beams that the candidates continue.
            length: tokens of a candidate, `<s>` counted.
        """
        score, parent, word = candidates  # [batch, candidates] each
        beams, limit = self._search.beams, self._search.max_length
        penalty = self._search.length_penalty
        self.done |= self._value >= score[:, 0].double() / (limit - 1) ** penalty
        ends = (word == EOS) | (length + 1 == limit)  # [batch, candidates]
        going = (~ends).long()
        considered = going.cumsum(1) - going < beams  # fewer than `beams` better candidates go on
        ended = ends & considered & ~self.done[:, None]
        value = (score.double() / length**penalty).masked_fill(~ended, float("-inf"))
        value, index = value.max(1)  # [batch], the best that ends and its candidate
        better = value > self._value
        self._value = torch.where(better, value, self._value)
        beam = parent.gather(1, index[:, None])[:, 0]  # [batch]
        hypothesis = words[torch.arange(len(words), device=words.device), beam].clone()  # [batch, max length]
        hypothesis[:, length - 1] = EOS
        hypothesis[:, length:] = PAD
        self.words = torch.where(better[:, None], hypothesis, self.words)
        # Candidates that do not end come first, in their order.
        return (ends.long() * ends.shape[1] + torch.arange(ends.shape[1], device=ends.device)).argsort(1)[:, :beams]
