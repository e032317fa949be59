"""One layer of the Multiway transformer; the drawing in `backbones.multiway` has its parts by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from backbones import noise
from backbones.attention import attend
from backbones.cache import KeyValueCache
from backbones.config import MultiwayConfig
from backbones.linear import Linear, for_products

IMAGE, TEXT, PAIR = "A", "B", "VL"  # names of the experts


def per_expert(make: Callable[[], nn.Module], names: Sequence[str]) -> nn.Module:
    """One module per expert name, or a single one for all when there are no names."""
    return nn.ModuleDict({name: make() for name in names}) if names else make()


def expert(module: nn.Module, name: str) -> nn.Module:
    """The module of one expert, or the single one that all share."""
    return module[name] if isinstance(module, nn.ModuleDict) else module


def join(streams: dict[str, Tensor]) -> Tensor:
    """Streams [batch, n, …] one behind the other: [batch, sum of n, …]."""
    tokens = list(streams.values())
    return tokens[0] if len(tokens) == 1 else torch.cat(tokens, dim=1)


Mix = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Query, key and value, each [batch, heads, tokens, head dim] -> the weighted means of the values, [the same]."""

Update = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""Streams of normed tokens [batch, n, dim] by expert -> what is added to each, [batch, n, dim]."""


class Attention(nn.Module):
    """Multi-head self-attention over the concatenated streams."""

    def __init__(self, config: MultiwayConfig, experts: Sequence[str]) -> None:
        super().__init__()
        self.heads = config.heads

        def projection() -> nn.Module:
            return Linear(config.dim, config.dim)

        self.k_proj = per_expert(projection, experts)
        self.v_proj = per_expert(projection, experts)
        self.q_proj = per_expert(projection, experts)
        self.out_proj = per_expert(projection, experts)
        self.inner_attn_ln = (
            per_expert(lambda: nn.LayerNorm(config.dim, eps=config.layer_norm_eps), experts) if config.sub_ln else None
        )

    def _project(self, projection: nn.Module, streams: dict[str, Tensor]) -> Tensor:
        """Streams of [batch, n, dim] -> [batch, heads, sum of n, dim / heads]."""
        joined = join({name: expert(projection, name)(tokens) for name, tokens in streams.items()})
        return joined.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, streams: dict[str, Tensor], mix: Mix) -> dict[str, Tensor]:
        """Streams of normed tokens [batch, n, dim] by expert -> the update of each, [batch, n, dim]."""
        query = self._project(self.q_proj, streams)  # [batch, heads, tokens of all streams, head dim]
        key = self._project(self.k_proj, streams)
        value = self._project(self.v_proj, streams)
        mixed = mix(query, key, value).transpose(1, 2).flatten(2)  # [batch, tokens of all streams, dim]
        out = {}
        lengths = [tokens.shape[1] for tokens in streams.values()]
        for name, tokens in zip(streams, mixed.split(lengths, dim=1), strict=True):
            if self.inner_attn_ln is not None:
                tokens = expert(self.inner_attn_ln, name)(tokens)
            out[name] = expert(self.out_proj, name)(tokens)
        return out


class FeedForward(nn.Module):
    """One expert: [batch, n, dim] -> [batch, n, dim]."""

    def __init__(self, config: MultiwayConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.dim, config.ffn_dim)
        self.fc2 = Linear(config.ffn_dim, config.dim)
        self.ffn_layernorm = nn.LayerNorm(config.ffn_dim, eps=config.layer_norm_eps) if config.sub_ln else None

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.fc1.forward_gelu(tokens)
        if self.ffn_layernorm is not None:
            hidden = self.ffn_layernorm(hidden)
        return self.fc2(hidden)


class Layer(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual and stochastic depth."""

    def __init__(self, config: MultiwayConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.drop_path = config.drop_path * index / max(config.layers - 1, 1)
        self.has_pair_expert = index >= config.layers - config.vl_layers
        ffn_experts = () if config.experts == "standard" else (IMAGE, TEXT)
        attention_experts = ffn_experts if config.attention == "decoupled" else ()
        if self.has_pair_expert:
            ffn_experts = (*ffn_experts, PAIR)

        def norm() -> nn.Module:
            return nn.LayerNorm(config.dim, eps=config.layer_norm_eps)

        self.self_attn = Attention(config, attention_experts)
        self.self_attn_layer_norm = per_expert(norm, attention_experts)
        self.ffn = per_expert(lambda: FeedForward(config), ffn_experts)
        self.final_layer_norm = per_expert(norm, ffn_experts)

    def _residual(self, streams: dict[str, Tensor], update: dict[str, Tensor], *, half: int) -> dict[str, Tensor]:
        """Add updates to their streams [batch, n, dim]; in training whole samples are dropped at the layer's rate.

        Args:
            half: 0 for attention, 1 for feed-forward.
        """
        if self.training and self.drop_path > 0:
            # One draw for a sample, shared by its image and its text; images alone and texts alone have their own.
            key = (self.index, half, len(update), int(TEXT in update))
            kept = noise.kept(next(iter(update.values())), self.drop_path, key=key)
            update = {name: tokens * kept for name, tokens in update.items()}  # kept: [batch, 1, 1]
        return {name: tokens + update[name] for name, tokens in streams.items()}

    def forward(
        self,
        streams: dict[str, Tensor],
        bias: Tensor | None = None,
        cache: KeyValueCache | None = None,
        *,
        attention: Update | None = None,
    ) -> dict[str, Tensor]:
        """Streams [batch, n, dim] by expert -> the same.

        Args:
            bias: added to the attention scores, broadcastable to [batch, heads, queries, keys].
            cache: keys and values of earlier tokens, which come first among the keys.
            attention: in place of the attention over all tokens, with neither bias nor cache.
        """

        def mix(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            if cache is not None:
                key, value = cache.append(self.index, key, value)
            return attend(query, key, value, bias)

        streams = self._attend(streams, attention or (lambda normed: self.self_attn(normed, mix)))
        return self._feed(streams, pair=len(streams) > 1 or (cache is not None and cache.pair))

    def _attend(self, streams: dict[str, Tensor], attention: Update) -> dict[str, Tensor]:
        """The attention half: streams [batch, n, dim], to which `attention` of the normed streams is added."""
        normed = {
            name: for_products(expert(self.self_attn_layer_norm, name)(tokens)) for name, tokens in streams.items()
        }
        return self._residual(streams, attention(normed), half=0)

    def _feed(self, streams: dict[str, Tensor], *, pair: bool) -> dict[str, Tensor]:
        """The feed-forward half, streams [batch, n, dim]; a pair's tokens go to the pair expert where there is one."""
        fused = self.has_pair_expert and pair
        update = {}
        for name, tokens in streams.items():
            chosen = PAIR if fused else name
            update[name] = expert(self.ffn, chosen)(expert(self.final_layer_norm, chosen)(tokens))
        return self._residual(streams, update, half=1)
