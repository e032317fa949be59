"""Captioning: masked words under a one-way mask, and beam search over a key/value cache.

Source: unilm beit3/modeling_finetune.py (BEiT3ForCaptioning), utils.py (BertCaptioningLoss, BeamHypotheses) and
engine_for_finetuning.py (CaptioningHandler) for the rules; the decoding is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.cache import KeyValueCache
from backbones.tokenizer import BOS, EOS, PAD


@dataclass(frozen=True, kw_only=True)
class CaptioningLoss:
    """Cross-entropy against smoothed targets; later in training the worst predicted tokens do not count.

    smoothing: probability that the target leaves to all other tokens together.
    drop_worst: share of the tokens of a batch to leave out, those of the largest loss.
    drop_worst_after: the optimizer step after which they are left out.
    """

    smoothing: float = 0.1
    drop_worst: float = 0.2
    drop_worst_after: int = 12_000

    def __call__(self, logits: Tensor, target: Tensor, *, step: int) -> Tensor:
        """Mean of the Kullback-Leibler divergences from the smoothed targets.

        Args:
            logits: [masked tokens, vocabulary].
            target: int64 [masked tokens].
        """
        others = logits.shape[1] - 1
        smooth = torch.full_like(logits, self.smoothing / others, dtype=torch.float32)
        smooth.scatter_(1, target[:, None], 1 - self.smoothing)
        loss = F.kl_div(logits.float().log_softmax(1), smooth, reduction="none").sum(1)
        if self.drop_worst and step > self.drop_worst_after:
            loss = loss.topk(int(len(loss) * (1 - self.drop_worst)), largest=False).values
        return loss.mean()


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """How captions are searched.

    beams: hypotheses that are followed at once.
    length_penalty: a hypothesis of n tokens (`<s>` and the open place counted) is worth its log-probability / n^this.
    max_length: tokens of a caption, `<s>` and `</s>` counted.
    """

    beams: int = 3
    length_penalty: float = 0.6
    max_length: int = 64


CANDIDATES_PER_BEAM = 3  # the official TOPN_PER_BEAM: enough that ended ones never leave a beam empty


def one_way_mask(image_tokens: int, text_tokens: int, *, device: torch.device) -> Tensor:
    """Who may not attend to whom, bool [tokens, tokens]: images see images, a word sees the image and earlier words."""
    tokens = image_tokens + text_tokens
    blocked = torch.zeros(tokens, tokens, dtype=torch.bool, device=device)
    blocked[:, image_tokens:] = torch.ones(tokens, text_tokens, dtype=torch.bool, device=device).triu(1 - image_tokens)
    return blocked


class Captioner(BaseModel):
    """Backbone and `mlm_head`, under the official key names.

    Args:
        mask: id of `<mask>`.
        detokenize: token ids -> text, for records.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        mask: int,
        detokenize: Callable[[Sequence[int]], str],
        loss: CaptioningLoss,
        search: BeamSearch,
    ) -> None:
        super().__init__()
        self.beit3 = backbone
        self.mlm_head = nn.Linear(backbone.dim, backbone.config.vocab_size)
        nn.init.trunc_normal_(self.mlm_head.weight, std=0.02)
        nn.init.zeros_(self.mlm_head.bias)
        self.mask = mask
        self.step = 0  # told by the engine
        self._detokenize = detokenize
        self._loss = loss
        self._search = search

    def forward(
        self,
        image: Tensor,
        text: Tensor | None = None,
        text_padding: Tensor | None = None,
        masked: Tensor | None = None,
        target: Tensor | None = None,
        mode: str = "tensor",
    ) -> Tensor | dict[str, Tensor] | list[dict[str, Any]]:
        """Loss of masked words, their logits, or captions.

        Args:
            image: float [batch, 3, size, size].
            text: int64 [batch, length], `<s>` words `</s>` with words masked.
            text_padding: [batch, length], 1 = padding.
            masked: [batch, length], 1 = to be predicted.
            target: int64 [batch, length], the words before masking.
            mode: "loss"; "tensor" for logits [masked words, vocabulary]; "predict" for one record per image.
        """
        if mode == "predict":
            return [{"caption": self._detokenize(ids)} for ids in self.decode(image).tolist()]
        logits = self._logits(image, text, text_padding, masked.bool())
        return logits if mode == "tensor" else {"loss": self._loss(logits, target[masked.bool()], step=self.step)}

    def _logits(self, image: Tensor, text: Tensor, text_padding: Tensor | None, masked: Tensor) -> Tensor:
        blocked = one_way_mask(self.beit3.image_tokens(image), text.shape[1], device=text.device)
        encoded = self.beit3(image, text, text_padding=text_padding, attn_mask=blocked)
        return self.mlm_head(encoded.text[masked])

    def decode(self, image: Tensor) -> Tensor:
        """The best caption of each image: int64 [batch, max length], `<s>` words `</s>` and then padding."""
        return _Decoder(self.beit3, self.mlm_head, self._search, mask=self.mask).run(image)


class _Decoder:
    """Beam search for a batch of images, as tensor operations without a loop over hypotheses.

    An image is encoded once, not once per beam: the beams of an image lie side by side in its text, each seeing the
    image, its own earlier words and its own open place (`<mask>`), whose logits are the next word's. Words stay where
    they were cached; when a beam continues another, only the record of who sees which word is rearranged.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, search: BeamSearch, *, mask: int) -> None:
        self._backbone = backbone
        self._head = head
        self._search = search
        self._mask = mask

    def run(self, image: Tensor) -> Tensor:
        search, beams = self._search, self._search.beams
        batch, prefix = len(image), self._backbone.image_tokens(image) + 1
        cache = KeyValueCache(prefix + beams * search.max_length)
        words = torch.full((batch, beams, search.max_length), PAD, device=image.device)
        words[:, :, 0] = BOS
        scores = torch.full((batch, beams), -1e9, device=image.device)
        scores[:, 0] = 0  # all beams start alike: the first one stands for them
        seen = torch.zeros(batch, beams, 0, dtype=torch.bool, device=image.device)
        best = _Best(batch, search, device=image.device)
        for length in range(2, search.max_length):  # tokens of a hypothesis, the open place counted
            if length == 2:
                logits = self._start(image, cache).expand(-1, beams, -1)
            else:
                seen = torch.cat(
                    [seen, torch.eye(beams, dtype=torch.bool, device=image.device).expand(batch, -1, -1)], 2
                )
                logits = self._advance(words[:, :, length - 2], length, seen, cache, prefix)
            candidates = _candidates(scores[:, :, None] + logits.float().log_softmax(-1))
            keep = best.update(candidates, words, length)
            if best.done.all():
                break
            scores, parent, word = (part.gather(1, keep) for part in candidates)
            words = words.gather(1, parent[:, :, None].expand_as(words))
            words[:, :, length - 1] = word
            seen = seen.gather(1, parent[:, :, None].expand_as(seen))
        return best.words

    def _start(self, image: Tensor, cache: KeyValueCache) -> Tensor:
        """Logits of the first word: [batch, 1, vocabulary]."""
        text = torch.tensor([BOS, self._mask], device=image.device).expand(len(image), 2)
        blocked = one_way_mask(self._backbone.image_tokens(image), 2, device=image.device)
        encoded = self._backbone(image, text, attn_mask=blocked, cache=cache)
        cache.truncate(len(cache) - 1)
        return self._head(encoded.text[:, 1:])

    def _advance(self, word: Tensor, length: int, seen: Tensor, cache: KeyValueCache, prefix: int) -> Tensor:
        """Logits after each beam's last word [batch, beams]: [batch, beams, vocabulary].

        seen: bool [batch, beams, cached words and these], which of the words belong to a beam.
        """
        batch, beams = word.shape
        text = torch.cat([word, torch.full_like(word, self._mask)], dim=1)
        positions = torch.arange(length - 2, length, device=word.device).repeat_interleave(beams)
        nothing = seen.new_zeros(batch, beams, beams)
        own = torch.eye(beams, dtype=torch.bool, device=word.device).expand(batch, -1, -1)
        visible = torch.cat([torch.cat([seen, nothing], 2), torch.cat([seen, own], 2)], 1)
        blocked = F.pad(~visible, (prefix, 0), value=False)
        encoded = self._backbone(text=text, text_positions=positions, attn_mask=blocked, cache=cache)
        cache.truncate(len(cache) - beams)
        return self._head(encoded.tokens[:, beams:])


def _candidates(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of all beams, best first: score, beam and word, each [batch, 3 × beams]."""
    batch, beams, vocabulary = scores.shape
    count = min(CANDIDATES_PER_BEAM * beams, beams * vocabulary)
    score, index = scores.view(batch, -1).topk(count, dim=1)
    return score, index // vocabulary, index % vocabulary


class _Best:
    """The best ended hypothesis of each image so far."""

    def __init__(self, batch: int, search: BeamSearch, *, device: torch.device) -> None:
        self._search = search
        self._value = torch.full((batch,), float("-inf"), dtype=torch.float64, device=device)
        self.words = torch.full((batch, search.max_length), PAD, device=device)
        self.done = torch.zeros(batch, dtype=torch.bool, device=device)

    def update(self, candidates: tuple[Tensor, Tensor, Tensor], words: Tensor, length: int) -> Tensor:
        """Take over hypotheses that end here; returns which candidates go on, int64 [batch, beams].

        Candidates are looked at from the best on until as many as there are beams go on; those that end before
        are ended hypotheses. At the length limit all end, without the word that would be too long.
        """
        score, parent, word = candidates
        beams, limit = self._search.beams, self._search.max_length
        penalty = self._search.length_penalty
        self.done |= self._value >= score[:, 0].double() / (limit - 1) ** penalty
        ends = (word == EOS) | (length + 1 == limit)
        going = (~ends).long()
        looked_at = going.cumsum(1) - going < beams
        ended = ends & looked_at & ~self.done[:, None]
        value = (score.double() / length**penalty).masked_fill(~ended, float("-inf"))
        value, index = value.max(1)
        better = value > self._value
        self._value = torch.where(better, value, self._value)
        hypothesis = words[
            torch.arange(len(words), device=words.device), parent.gather(1, index[:, None])[:, 0]
        ].clone()
        hypothesis[:, length - 1] = EOS
        hypothesis[:, length:] = PAD
        self.words = torch.where(better[:, None], hypothesis, self.words)
        return (ends.long() * ends.shape[1] + torch.arange(ends.shape[1], device=ends.device)).argsort(1)[:, :beams]
