"""The codebook of a vector-quantised tokenizer.

Codes are directions in few dimensions, and follow the vectors that choose them as moving averages: the form of VQ-KD
(BEiT v2, arXiv 2208.06366, section 2.2, and unilm beit2/norm_ema_quantizer.py). Ours are the revival of codes that
nothing chooses any more, and that all processes share one initialisation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from backbones import noise
from backbones.errors import UsageError
from tasks.common.step_loss import gathered, processes, summed
from tasks.pretraining.kmeans import nearest, spherical_kmeans, totals

_INITIAL, _REVIVED = 1, 2  # kinds of random draws


class Quantised(NamedTuple):
    """Vectors replaced by codes.

    codes: int64 [batch, patches].
    vectors: float32 [batch, patches, dim], those of the codes, with the gradient of the vectors that they replace.
    commitment: scalar, the mean squared distance between the two, over dimensions too.
    """

    codes: Tensor
    vectors: Tensor
    commitment: Tensor


class Codebook(nn.Module):
    """`codes` directions of `dim` dimensions. In training they move with every batch, and as an evaluated module never.

    Args:
        decay: of the moving averages.
        revive_below: a code dies when its average number of hits falls below this share of the mean over all codes,
            and takes a vector of the batch, chosen at random, instead; 0: it stays where it is, as officially.
        iterations: of the k-means on the first batch that the codes begin with.
    """

    def __init__(
        self, codes: int, dim: int, *, decay: float = 0.99, revive_below: float = 0.0, iterations: int = 10
    ) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(codes, dim))
        self.register_buffer("hits", torch.zeros(codes))  # moving average of those of a batch
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.register_buffer("_seen", torch.zeros(codes), persistent=False)
        self._decay = decay
        self._revive_below = revive_below
        self._iterations = iterations

    def forward(self, vectors: Tensor) -> Quantised:
        """Quantise vectors [batch, patches, dim] of any length; they are compared by direction, in float32.

        Raises:
            UsageError: the first batch has fewer vectors than there are codes.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = F.normalize(vectors.float(), dim=-1)
            flat = vectors.detach().flatten(0, 1)
            if self.training and not self.started:
                self._start(flat)
            chosen = nearest(flat, self.weight)
            codes = self.weight[chosen].view_as(vectors)
            if self.training:
                self._move(flat, chosen)
            commitment = F.mse_loss(vectors, codes)
            return Quantised(chosen.view(vectors.shape[:-1]), vectors + (codes - vectors).detach(), commitment)

    def usage(self) -> dict[str, float]:
        """Share of the codes that were chosen since the last call, and the perplexity of the choice.

        Counted in training, over all processes; every process has to ask.
        """
        counts = summed(self._seen).clone()
        self._seen.zero_()
        share = counts / counts.sum().clamp(min=1)
        entropy = -(share * share.clamp(min=torch.finfo(share.dtype).tiny).log()).sum()
        return {"code_usage": (counts > 0).float().mean().item(), "code_perplexity": entropy.exp().item()}

    def _start(self, flat: Tensor) -> None:
        """Begin with the clusters of the first batch, of all processes together."""
        vectors = gathered(flat)
        if len(vectors) < len(self.weight):
            raise UsageError(
                f"The first batch has {len(vectors):,} patches, and the codebook {len(self.weight):,} codes, which "
                "begin as clusters of them. Use a larger batch (--set micro_batch=…, --set batch_size=…) or fewer "
                "codes (--set codes=…)."
            )
        centres, counts = spherical_kmeans(
            vectors, len(self.weight), iterations=self._iterations, generator=_generator(_INITIAL)
        )
        self._take(slice(None), centres, counts)
        self.started.fill_(True)

    def _move(self, flat: Tensor, chosen: Tensor) -> None:
        """Move each code towards the mean direction of the vectors that chose it."""
        sums, counts = totals(flat, chosen, len(self.weight))
        self._seen += counts
        both = summed(torch.cat([sums, counts[:, None]], dim=1))
        sums, counts = both[:, :-1], both[:, -1]
        means = torch.where(counts[:, None] > 0, F.normalize(sums, dim=1), self.weight)
        self.weight.copy_(F.normalize(self._decay * self.weight + (1 - self._decay) * means, dim=1))
        self.hits.mul_(self._decay).add_(counts, alpha=1 - self._decay)
        if self._revive_below:
            self._revive(flat, typical=counts.mean())

    def _revive(self, flat: Tensor, *, typical: Tensor) -> None:
        """Give dead codes vectors of this batch; without new averages the next move would take them back."""
        dead = (self.hits < self._revive_below * typical).nonzero().flatten()
        if len(dead):
            vectors = gathered(flat)
            drawn = torch.randint(len(vectors), (len(dead),), generator=_generator(_REVIVED))
            self._take(dead, vectors[drawn.to(vectors.device)], typical.expand(len(dead)))

    def _take(self, which: Tensor | slice, codes: Tensor, hits: Tensor) -> None:
        """Replace some codes and their hits by those of the main process."""
        codes, hits = codes.contiguous(), hits.contiguous()
        if processes() > 1:
            dist.broadcast(codes, src=0)
            dist.broadcast(hits, src=0)
        self.weight[which] = codes
        self.hits[which] = hits


def _generator(kind: int) -> torch.Generator:
    """Random numbers of a part of a training step, the same in every process."""
    share = noise.current()
    if share is None:
        return torch.Generator().manual_seed(torch.randint(1 << 62, ()).item())
    part = share.first // (share.count * processes())
    return torch.Generator().manual_seed(int(share.words(kind, part)[0] >> 1))
