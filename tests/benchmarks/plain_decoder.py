"""A straightforward caption decoder over torchscale's BEiT3, as the official one works.

Every image is encoded once per beam, keys and values grow by concatenation in torchscale's `incremental_state`, and
hypotheses are Python objects that a loop looks at one by one. Our decoder is timed against it and must give the same
captions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from backbones.positions import UNUSED_ROWS
from backbones.tokenizer import BOS, EOS, PAD
from tasks.captioning.beam_search import CANDIDATES_PER_BEAM, BeamSearch, one_way_mask


@dataclass
class _Image:
    """The best ended hypothesis of one image."""

    value: float = float("-inf")
    words: list[int] = field(default_factory=list)
    done: bool = False

    def add(self, words: list[int], log_probability: float, penalty: float) -> None:
        value = log_probability / (len(words) + 1) ** penalty  # the open place counts
        if value > self.value:
            self.value, self.words = value, words


@torch.inference_mode()
def decode(beit3: nn.Module, head: nn.Module, image: Tensor, search: BeamSearch, *, mask: int) -> list[list[int]]:
    """The words of the best caption of each image [batch, 3, size, size], without special tokens."""
    batch, beams = len(image), search.beams
    image = image.repeat_interleave(beams, 0)
    text = torch.tensor([[BOS, mask]]).repeat(batch * beams, 1)
    state: dict[int, dict[str, Tensor]] = {layer: {} for layer in range(len(beit3.encoder.layers))}
    words = [[BOS] for _ in range(batch * beams)]
    scores = [0.0 if row % beams == 0 else -1e9 for row in range(batch * beams)]
    found = [_Image() for _ in range(batch)]
    for length in range(2, search.max_length):
        logits = _open_place(beit3, head, image if length == 2 else None, text, state, length)
        total = logits.log_softmax(-1) + torch.tensor(scores)[:, None]
        best, index = total.view(batch, -1).topk(CANDIDATES_PER_BEAM * beams, dim=1)
        going: list[tuple[float, int, int]] = []
        for number, ended in enumerate(found):
            going += _continue(ended, best[number], index[number], number, words, length, search, logits.shape[1])
        if all(ended.done for ended in found):
            break
        if length + 1 == search.max_length:
            break
        scores = [score for score, _, _ in going]
        rows = torch.tensor([row for _, row, _ in going])
        words = [[*words[row], word] for _, row, word in going]
        for layer in state.values():
            for name in layer:
                layer[name] = layer[name].index_select(0, rows)[:, :, :-1]
        text = torch.tensor([[word, mask] for _, _, word in going])
    return [ended.words[1:] for ended in found]


def _continue(
    ended: _Image,
    best: Tensor,
    index: Tensor,
    number: int,
    words: list[list[int]],
    length: int,
    search: BeamSearch,
    vocabulary: int,
) -> list[tuple[float, int, int]]:
    """(score, row, word) of one image's next beams."""
    limit = search.max_length
    ended.done = ended.done or ended.value >= best.max().item() / (limit - 1) ** search.length_penalty
    if ended.done:
        return [(0.0, 0, PAD)] * search.beams
    going: list[tuple[float, int, int]] = []
    for score, place in zip(best, index, strict=True):
        row, word = number * search.beams + place.item() // vocabulary, place.item() % vocabulary
        if word == EOS or length + 1 == limit:
            ended.add(list(words[row]), score.item(), search.length_penalty)
        else:
            going.append((score.item(), row, word))
        if len(going) == search.beams:
            break
    return going


def _open_place(
    beit3: nn.Module, head: nn.Module, image: Tensor | None, text: Tensor, state: dict, length: int
) -> Tensor:
    """Logits of the next word [rows, vocabulary]; the open place is the text's last token."""
    if image is None:
        cached = state[0]["prev_key"].shape[2]
        blocked = torch.zeros(2, cached + 2)
        blocked[0, -1] = 1
    else:
        blocked = one_way_mask(beit3.vision_embed.num_position_embeddings(), 2, device=text.device).float()
    out = beit3(
        textual_tokens=text,
        visual_tokens=image,
        text_padding_position=None if image is None else torch.zeros_like(text),
        attn_mask=blocked,
        incremental_state=state,
        positions=None if image is not None else torch.arange(length - 2, length)[None] + UNUSED_ROWS,
    )["encoder_out"]
    return head(out[:, -1])
