"""The Multiway transformer: self-attention over all tokens, one feed-forward expert per modality.

    image [batch, 3, height, width]  -> VisionEmbedding + positions A -> stream A [batch, 1 + patches, dim]
    text  [batch, length]            -> Embedding       + positions B -> stream B [batch, length, dim]

    each layer:
      A -+- norm.A - q,k,v.A -.                         .- out.A -+- norm.A  - ffn.A --+-> A
         |                    |  attention over the     |         |                    |
         '--------------------|- tokens of A and B -----|---------'--------------------'   (residuals)
         .--------------------|- joined                 |---------.--------------------.
         |                    |                         |         |                    |
      B -+- norm.B - q,k,v.B -'                         '- out.B -+- norm.B  - ffn.B --+-> B

    attention="shared":  one norm and one set of q, k, v and out for both streams
    experts="standard":  one feed-forward (and its norm) for both
    vl_layers=n:         in the last n layers, both streams of an image-text pair go through norm.VL and ffn.VL

Tokens travel as one tensor per modality ("streams"), because every projection, norm and feed-forward of the decoupled
form is applied to one modality at a time; they meet only inside the attention. Parameters carry the names of the
official implementation, in which expert A is vision and expert B is language, so that official checkpoints load as
they are. Source of the layer's form: "Image as a Foreign Language" (arXiv 2208.10442) and Magneto (arXiv 2210.06423)
for the sub-LayerNorms.

Under autocast the streams stay float32 from the embeddings to the final norm, as in torchscale: half precision holds
what a layer computes, but would lose it in the sum of all layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.cache import KeyValueCache
from backbones.config import MultiwayConfig
from backbones.layer import IMAGE, PAIR, TEXT, Layer, expert, join, per_expert
from backbones.linear import product_dtype
from backbones.positions import (
    UNUSED_ROWS,
    PositionTable,
    image_positions,
    require_whole_patches,
    resize_image_table,
    resize_patch_kernel,
)


class Encoded(NamedTuple):
    """Output of the transformer.

    tokens: [batch, image tokens + text tokens, dim]; the image comes first and starts with its class token.
    image_length: how many of the tokens are the image's (0 for text alone).
    layers: the tokens after each layer that was asked for, before the final norm.
    """

    tokens: Tensor
    image_length: int
    layers: tuple[Tensor, ...] = ()

    @property
    def image(self) -> Tensor:
        return self.tokens[:, : self.image_length]

    @property
    def text(self) -> Tensor:
        return self.tokens[:, self.image_length :]


class VisionEmbedding(nn.Module):
    """Image -> class token and patch tokens, without positions."""

    def __init__(self, config: MultiwayConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.dim, kernel_size=config.patch_size, stride=config.patch_size)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))

    def forward(self, image: Tensor, masked: Tensor | None) -> Tensor:
        """[batch, 3, height, width] -> [batch, 1 + patches, dim]; `masked` [batch, patches], 1 = masked."""
        patches = self.proj(image).flatten(2).transpose(1, 2)  # [batch, patches, dim]
        if masked is not None:
            patches = torch.where(masked.bool().unsqueeze(-1), self.mask_token, patches)
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)


class Encoder(nn.Module):
    """Position tables, layers and the final norm (named as in the official checkpoints)."""

    def __init__(self, config: MultiwayConfig) -> None:
        super().__init__()
        image_rows = UNUSED_ROWS + 1 + config.grid**2
        self.embed_positions = nn.ModuleDict(
            {
                IMAGE: PositionTable(image_rows, config.dim),
                TEXT: PositionTable(config.max_text_positions, config.dim),
            }
        )
        self.layers = nn.ModuleList([Layer(config, index) for index in range(config.layers)])
        norm_experts = (IMAGE, TEXT) if config.attention == "decoupled" else ()
        self.layer_norm = (
            per_expert(lambda: nn.LayerNorm(config.dim, eps=config.layer_norm_eps), norm_experts)
            if config.final_norm
            else None
        )


class Multiway(nn.Module):
    """One Multiway transformer for images, texts and image-text pairs."""

    def __init__(self, config: MultiwayConfig) -> None:
        super().__init__()
        self.config = config
        self.text_embed = nn.Embedding(config.vocab_size, config.dim)
        self.vision_embed = VisionEmbedding(config)
        self.encoder = Encoder(config)
        self.reset_parameters()

    runs_by_layers = True  # with `embed_image` and `image_layers`
    prefix_tokens = 1  # the class token in front of the patches
    pixel_mean = pixel_std = (0.5, 0.5, 0.5)  # of RGB in 0..1, as pretrained
    any_size = True  # images of other sizes than the configured one take interpolated positions

    @property
    def patch_size(self) -> int:
        return self.config.patch_size

    @property
    def dim(self) -> int:
        return self.config.dim

    @property
    def heads(self) -> int:
        return self.config.heads

    @property
    def num_layers(self) -> int:
        return self.config.layers

    @property
    def repeated(self) -> nn.ModuleList:
        """The modules that make up most of the backbone: all alike, one behind the other."""
        return self.encoder.layers

    @property
    def map_layers(self) -> int:
        """Number of layers that `maps` can be asked for."""
        return self.config.layers

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Magneto's initialisation (arXiv 2210.06423, Figure 2), biases 0.

        Xavier-normal weights; with sub-LayerNorm those of values, outputs and feed-forwards have the gain
        sqrt(ln(2 * layers)). The official fine-tuning code means to do so too, but then overwrites it with normals of
        std 0.02 cut at one std, from which a small model hardly learns; what it starts from a checkpoint is the same.
        """
        gain = math.sqrt(math.log(2 * self.config.layers)) if self.config.sub_ln else 1.0
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                plain = ".q_proj" in name or ".k_proj" in name
                nn.init.xavier_normal_(module.weight, gain=1.0 if plain else gain)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.text_embed.weight, std=self.config.dim**-0.5)

    def forward(
        self,
        image: Tensor | None = None,
        text: Tensor | None = None,
        *,
        text_padding: Tensor | None = None,
        vision_masked: Tensor | None = None,
        attn_mask: Tensor | None = None,
        text_positions: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layers: Sequence[int] = (),
    ) -> Encoded:
        """Encode images, texts or pairs.

        Args:
            image: float [batch, 3, height, width], normalised by the task; sides are multiples of the
                patch size. Another size than the configured one takes interpolated positions.
            text: int64 [batch, length] token ids.
            text_padding: bool or int [batch, length], 1 = padding (never attended to).
            vision_masked: bool or int [batch, patches], 1 = replaced by the mask token.
            attn_mask: bool or int [queries, keys] or [batch, queries, keys], 1 = may not attend; keys include
                cached ones, which come first.
            text_positions: int64 [length], the position of each text token in its text; 0, 1, … when not given.
            cache: keys and values of earlier calls; this call's are appended to it.
            layers: indices of the layers whose output is wanted in `Encoded.layers`.

        Raises:
            ValueError: neither image nor text, or padding together with a cache.
        """
        if image is None and text is None:
            raise ValueError("Multiway needs an image, a text or both.")
        if cache is not None and text_padding is not None:
            raise ValueError("A key/value cache holds no padding: pass unpadded text with a cache.")
        streams = {}
        if image is not None:
            streams[IMAGE] = self.embed_image(image, vision_masked)
        if text is not None:
            streams[TEXT] = self._embed_text(text, text_padding, text_positions)
        image_length = streams[IMAGE].shape[1] if image is not None else 0
        if cache is not None and image is not None:
            cache.pair = True
        dtype = product_dtype(next(iter(streams.values())))
        bias = _attention_bias(attn_mask, text_padding, image_length, dtype=dtype)

        kept = {}
        for layer in self.encoder.layers:
            streams = self._checkpointed(layer, streams, bias, cache)
            if layer.index in layers:
                kept[layer.index] = join(streams)
        if self.encoder.layer_norm is not None:
            streams = {name: expert(self.encoder.layer_norm, name)(tokens) for name, tokens in streams.items()}
        return Encoded(join(streams), image_length, tuple(kept[index] for index in layers))

    def _checkpointed(self, call: Callable, *inputs: Any) -> Any:
        """`call(*inputs)`, its activations computed again in the backward pass when the configuration says so."""
        if self.config.checkpoint_activations and self.training:
            return checkpoint(call, *inputs, use_reentrant=False)
        return call(*inputs)

    def image_layers(self, tokens: Tensor, layers: range) -> Tensor:
        """Image tokens (see `embed_image`) passed on through some of the layers: [batch, 1 + patches, dim]."""
        streams = {IMAGE: tokens}
        for index in layers:
            streams = self._checkpointed(self.encoder.layers[index], streams, None, None)
        return streams[IMAGE]

    def image_tokens(self, image: Tensor) -> int:
        """Number of tokens of an image [batch, 3, height, width], the class token included."""
        height, width = image.shape[-2:]
        return self.prefix_tokens + (height // self.config.patch_size) * (width // self.config.patch_size)

    def maps(self, image: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """Patch tokens after the given layers as [batch, dim, height / patch, width / patch] maps.

        No class token and no final norm: what dense heads take.
        """
        height, width = (side // self.config.patch_size for side in image.shape[-2:])
        encoded = self(image, layers=layers)
        return tuple(tokens[:, 1:].transpose(1, 2).unflatten(2, (height, width)) for tokens in encoded.layers)

    def layer_id(self, name: str) -> int:
        """Depth of a parameter for layer-wise learning-rate decay: 0 embeddings … layers + 1 the final norm."""
        if "embed" in name:
            return 0
        if ".layers." in f".{name}":
            return int(name.split("layers.")[1].split(".")[0]) + 1
        return self.num_layers + 1

    def no_weight_decay(self) -> set[str]:
        """Parameters of two or more dimensions that weight decay leaves alone, as in the official code."""
        return {"encoder.embed_positions.A.weight", "vision_embed.cls_token"}

    def freeze_unused_by_images(self) -> None:
        """Freeze what encoding an image alone never touches: they get no gradient and need no optimizer state."""
        for name, parameter in self.named_parameters():
            if name.startswith(("text_embed.", "vision_embed.mask_token")) or {TEXT, PAIR} & set(name.split(".")):
                parameter.requires_grad_(False)

    def own_key(self, name: str) -> str | None:
        """The name in this module of a tensor in a checkpoint file; None when it belongs to a head."""
        return name if name.startswith(("text_embed.", "vision_embed.", "encoder.")) else None

    def resized(self, name: str, tensor: Tensor, like: Tensor) -> Tensor | None:
        """A tensor of a file fitted to this model's image and patch size; None where its size fits neither."""
        if name == "encoder.embed_positions.A.weight":
            side = math.isqrt(len(like) - UNUSED_ROWS - 1)
            return resize_image_table(tensor, (side, side))
        if name == "vision_embed.proj.weight":
            return resize_patch_kernel(tensor, like.shape[-1])
        return None

    def embed_image(self, image: Tensor, masked: Tensor | None = None) -> Tensor:
        """Input of the first layer for an image: [batch, 1 + patches, dim], the class token first.

        Raises:
            InputError: the sides of the image are not multiples of the patch size.
        """
        require_whole_patches(image, self.config.patch_size)
        grid = tuple(side // self.config.patch_size for side in image.shape[-2:])
        return self.vision_embed(image, masked) + image_positions(self.encoder.embed_positions[IMAGE].weight, grid)

    def _embed_text(self, text: Tensor, padding: Tensor | None, positions: Tensor | None) -> Tensor:
        table = self.encoder.embed_positions[TEXT].weight[UNUSED_ROWS:]
        if text.shape[1] > len(table):
            raise ValueError(f"A text of {text.shape[1]} tokens is too long; there are {len(table)} positions.")
        tokens = self.text_embed(text) + (table[: text.shape[1]] if positions is None else table[positions])
        return tokens if padding is None else tokens * (1 - padding.to(tokens.dtype)).unsqueeze(-1)


def _attention_bias(
    attn_mask: Tensor | None, text_padding: Tensor | None, image_length: int, *, dtype: torch.dtype
) -> Tensor | None:
    """Term that is added to the attention scores, broadcastable to [batch, heads, queries, keys].

    Blocked pairs get -1e8 (in float16, which ends at -65504, half its least number) and padded keys -inf, as in the
    official code: the difference shows in rows in which everything is blocked.
    """
    bias = None
    if attn_mask is not None:
        blocked = max(-1e8, torch.finfo(dtype).min / 2)
        bias = torch.zeros_like(attn_mask, dtype=dtype).masked_fill_(attn_mask.bool(), blocked)
        bias = bias[None, None] if bias.ndim == 2 else bias[:, None]
    if text_padding is not None:
        keys = F.pad(text_padding.bool(), (image_length, 0))  # [batch, keys]
        padded = torch.zeros_like(keys, dtype=dtype).masked_fill_(keys, float("-inf"))[:, None, None]
        bias = padded if bias is None else bias + padded
    return bias
