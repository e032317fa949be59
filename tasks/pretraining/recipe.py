"""Fields of the stages of pretraining, each switch of the ablations among them. Nothing here imports PyTorch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from backbones.errors import UsageError
from tasks.pretraining.masking import BlockMasking, Modality, PairMasking, TokenMasking
from tasks.recipe import Recipe

Reconstruction = Literal["none", "mono", "multi", "both"]
Target = Literal["tokenizer", "kmeans", "pixels"]


@dataclass(frozen=True, kw_only=True)
class PretrainingRecipe(Recipe):
    """Fields of every stage. `pair_files` is a pattern of the names of the files that pairs are read from.

    starts_from: the stage (a recipe's name, run under the same --out) whose weights this one begins with where none
        are given; empty: random weights.
    """

    ONLY_TRAINING: ClassVar[tuple[str, ...]] = ()

    starts_from: str = ""
    pair_files: str = "*"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of data that the stage reads, of images, texts and pairs."""
        raise NotImplementedError

    def backbone_options(self) -> dict[str, Any]:
        """Fields of `MultiwayConfig` that the recipe sets, besides image size and drop path."""
        return {}


@dataclass(frozen=True, kw_only=True)
class ContrastiveRecipe(PretrainingRecipe):
    """Image-text contrastive training of a dual encoder, after the masked stage (arXiv 2208.10442, Appendix A)."""

    max_tokens: int = 64  # of a text, <s> and </s> included
    smallest_crop: float = 0.5  # share of an image's area
    color_jitter: float = 0.0

    RANGES: ClassVar[Mapping[str, str]] = {
        **PretrainingRecipe.RANGES, "smallest_crop": "(0, 1]", "color_jitter": "[0, 10]",
    }  # fmt: skip

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("pairs",)


@dataclass(frozen=True, kw_only=True)
class MaskedDataRecipe(PretrainingRecipe):
    """Masked data modelling of images, texts and image-text pairs (arXiv 2208.10442, section 2.2).

    `batch_size` and `micro_batch` count each kind of data for itself: a step of the paper's 6,144 samples, 2,048 of
    each kind, is a batch of 2,048.

    The switches of the ablations (public talk on the CVPR paper, tables a to f): `transformer` (a), `pair_masking` (b),
    `image_target` (d), `text_reconstruction` (e), `image_reconstruction` (f), and the two last ones both at `mono` or
    `multi` (c).
    """

    image_reconstruction: Reconstruction = "both"  # data whose images are masked: alone (mono), in pairs (multi)
    text_reconstruction: Reconstruction = "both"  # data whose texts are masked
    pair_masking: Literal["separate", "joint"] = "separate"  # the image or the text of a pair, or both at once
    image_target: Target = "tokenizer"
    new_image_head: bool = False  # begin mim_head at random, though the weights have one for another number of codes
    transformer: Literal["multiway", "standard"] = "multiway"  # standard: one set of weights for all modalities

    image_mask_ratio: float = 0.4
    smallest_block: float = 0.08  # of the grid
    text_mask_ratio: float = 0.15
    pair_mask_ratio: float = 0.5  # of the text of a pair
    text_length: int = 128  # tokens of a row of text alone, filled with as many texts as it takes
    max_tokens: int = 64  # tokens of the text of a pair, <s> and </s> included
    smallest_crop: float = 0.5  # share of an image's area
    color_jitter: float = 0.4  # brightness, contrast and saturation; 0: none
    flip: bool = True  # of images without a text; that of a pair would make "left" wrong

    RANGES: ClassVar[Mapping[str, str]] = {
        **PretrainingRecipe.RANGES, "image_mask_ratio": "(0, 1]", "smallest_block": "(0, 1]",
        "text_mask_ratio": "(0, 1]", "pair_mask_ratio": "(0, 1]", "text_length": "[3, 4096]", "smallest_crop": "(0, 1]",
        "color_jitter": "[0, 10]",
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kinds:
            raise UsageError(
                "image_reconstruction and text_reconstruction are both none: nothing is left to learn. Set one of them "
                "to mono, multi or both."
            )
        for name, least in (("text_length", 3), ("max_tokens", 3)):
            if getattr(self, name) < least:
                raise UsageError(f"Recipe field {name} must be at least {least}, not {getattr(self, name)}.")
        if not 0 < self.smallest_crop <= 1:
            raise UsageError(f"Recipe field smallest_crop is a share above 0 up to 1, not {self.smallest_crop}.")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of data that a step has a batch of: those that carry a loss, of images, texts and pairs."""
        carries = {
            "images": self.image_reconstruction in ("mono", "both"),
            "texts": self.text_reconstruction in ("mono", "both"),
            "pairs": bool(self.pair_modalities),
        }
        return tuple(kind for kind, has_loss in carries.items() if has_loss)

    @property
    def pair_modalities(self) -> Collection[Modality]:
        """The sides of a pair that are reconstructed."""
        sides = {"image": self.image_reconstruction, "text": self.text_reconstruction}
        return tuple(side for side, where in sides.items() if where in ("multi", "both"))

    def image_masking(self, patch_size: int) -> BlockMasking:
        """The masks of an image's patches."""
        grid = self.image_size // patch_size
        return BlockMasking(grid=grid, ratio=self.image_mask_ratio, smallest=self.smallest_block)

    def text_masking(self) -> TokenMasking:
        """The masks of a text alone."""
        return TokenMasking(ratio=self.text_mask_ratio)

    def pair_masks(self, patch_size: int) -> PairMasking:
        """The masks of a pair."""
        return PairMasking(
            image=self.image_masking(patch_size),
            text=TokenMasking(ratio=self.pair_mask_ratio),
            reconstructed=self.pair_modalities,
            joint=self.pair_masking == "joint",
        )

    def backbone_options(self) -> dict[str, Any]:
        """Fields of `MultiwayConfig` that the recipe sets, besides image size and drop path."""
        if self.transformer == "standard":
            return {"experts": "standard", "attention": "shared", "vl_layers": 0}
        return {}


@dataclass(frozen=True, kw_only=True)
class DistillationRecipe(PretrainingRecipe):
    """Training of an image tokenizer; `batch_size` counts images."""

    codes: int = 8192
    code_dim: int = 32
    codebook_decay: float = 0.99
    revive_below: float = 0.02  # ours: share of the mean hits below which a code dies and begins elsewhere; 0: never
    commitment: float = 1.0  # weight of the encoder's distance to the codes
    encoder_layers: int = 0  # 0: as many as the backbone has
    decoder_layers: int = 3
    smallest_crop: float = 0.08  # share of an image's area
    flip: bool = True

    RANGES: ClassVar[Mapping[str, str]] = {
        **PretrainingRecipe.RANGES, "codes": "[2, 1e6]", "code_dim": "[1, 4096]", "codebook_decay": "[0, 1)",
        "revive_below": "[0, 1]", "commitment": "[0, 1000]", "encoder_layers": "[0, 1000]",
        "decoder_layers": "[1, 1000]", "smallest_crop": "(0, 1]",
    }  # fmt: skip

    @property
    def split_alters(self) -> bool:
        """Always: the codes move with each micro-batch."""
        return True

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("images",)


@dataclass(frozen=True, kw_only=True)
class ClusterRecipe(PretrainingRecipe):
    """Clustering of a teacher's features of `images` images; nothing is trained."""

    codes: int = 1024
    images: int = 4096
    iterations: int = 20

    RANGES: ClassVar[Mapping[str, str]] = {
        **PretrainingRecipe.RANGES, "codes": "[2, 1e6]", "images": "[1, 1e8]", "iterations": "[1, 1e4]",
    }  # fmt: skip

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("images",)
