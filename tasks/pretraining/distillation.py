"""Vector-quantised knowledge distillation: a tokenizer learns to keep what a teacher sees in each patch.

The codes of an image have to be enough for a shallow decoder to predict the teacher's features. Source: BEiT v2 (arXiv
2208.06366, section 2.2), unilm beit2/modeling_vqkd.py.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.config import MultiwayConfig
from backbones.layer import IMAGE, Layer
from backbones.positions import PositionTable
from tasks.common.step_loss import summed
from tasks.pretraining.codebook import Codebook
from tasks.pretraining.recipe import DistillationRecipe
from tasks.pretraining.teacher import Teacher
from tasks.pretraining.tokenizer import ImageTokenizer, encoder_config, task_layer


class Decoder(nn.Module):
    """Codes of the patches of an image -> features: [batch, patches, code dim] -> [batch, patches, outputs]."""

    def __init__(self, encoder: MultiwayConfig, *, layers: int, code_dim: int, outputs: int) -> None:
        super().__init__()
        own = replace(encoder, layers=max(layers, 1), drop_path=0.0)
        self.embed = nn.Linear(code_dim, own.dim)
        self.positions = PositionTable(own.grid**2, own.dim)
        self.layers = nn.ModuleList(Layer(own, index) for index in range(layers))
        self.norm = nn.LayerNorm(own.dim, eps=own.layer_norm_eps)
        self.task_layer = task_layer(own.dim, outputs)

    def forward(self, codes: Tensor) -> Tensor:
        streams = {IMAGE: self.embed(codes) + self.positions.weight}
        for layer in self.layers:
            streams = layer(streams, None, None)
        return self.task_layer(self.norm(streams[IMAGE]))


class Distillation(BaseModel):
    """The parts of an `ImageTokenizer`, and a decoder that predicts a teacher's features of each patch by direction.

    The loss is the mean of 1 - cosine over patches, and `commitment` times the mean squared distance of the encoder's
    vectors to their codes, over their dimensions too.
    """

    def __init__(self, recipe: DistillationRecipe, backbone: str, teacher: Teacher) -> None:
        super().__init__()
        encoder = encoder_config(
            backbone, image_size=recipe.image_size, layers=recipe.encoder_layers, drop_path=recipe.drop_path
        )
        codebook = Codebook(
            recipe.codes, recipe.code_dim, decay=recipe.codebook_decay, revive_below=recipe.revive_below
        )
        tokenizer = ImageTokenizer(encoder, codebook)
        # The tokenizer's parts are this model's, under the names of its file. In a tuple neither is a submodule: the
        # teacher is neither saved nor trained.
        self._outside = (tokenizer, teacher)
        self.beit3 = tokenizer.beit3
        self.encode_task_layer = tokenizer.encode_task_layer
        self.quantize = tokenizer.quantize
        self.decoder = Decoder(encoder, layers=recipe.decoder_layers, code_dim=recipe.code_dim, outputs=teacher.dim)
        self._commitment = recipe.commitment
        self.register_buffer("_sums", torch.zeros(3, dtype=torch.float64), persistent=False)

    @property
    def tokenizer(self) -> ImageTokenizer:
        """Trained part without decoder and teacher."""
        return self._outside[0]

    @property
    def teacher(self) -> Teacher:
        """Whose features are predicted."""
        return self._outside[1]

    def _apply(self, function, recurse: bool = True) -> Distillation:
        self.teacher._apply(function, recurse)
        return super()._apply(function, recurse)

    def forward(self, pixels: Tensor, view: Tensor | None = None, mode: str = "loss") -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            pixels: uint8 [batch, 3, size, size].
            view: the same crops in the size that the teacher needs, where that is another.
        """
        quantised = self.tokenizer(pixels)
        predicted = self.decoder(quantised.vectors)
        with torch.no_grad():
            features = self.teacher(pixels if view is None else view)
        reconstruction = (1 - F.cosine_similarity(predicted.float(), features.float(), dim=-1)).mean()
        with torch.no_grad():
            parts = torch.stack([reconstruction, quantised.commitment, torch.ones_like(reconstruction)])
            self._sums += parts.double()
        return {"loss": reconstruction + self._commitment * quantised.commitment}

    def figures(self) -> dict[str, float]:
        """Means since the last call, over all processes: the parts of the loss, the codebook's usage and perplexity."""
        reconstruction, commitment, count = summed(self._sums).tolist()
        self._sums.zero_()
        if not count:
            return {}
        losses = {"reconstruction_loss": reconstruction / count, "commitment_loss": commitment / count}
        return losses | self.quantize.usage()
