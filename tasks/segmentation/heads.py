"""UPerNet and Mask2Former as MMSegmentation builds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.segmentation.recipes import SegmentationRecipe

MAPS = 4  # strides 4, 8, 16 and 32
QUERIES = 200
GROUPS = 32  # of group normalisation
# Channels of a group at least: groups of one or two lose what is the same all over a picture, such as its surface.
LEAST_IN_GROUP = 8
AUXILIARY_CHANNELS = 256
AUXILIARY_WEIGHT = 0.4


def upernet(dim: int, *, classes: int, recipe: SegmentationRecipe) -> dict[str, Any]:
    """UPerNet's decode head over four maps (Xiao et al., arXiv 1807.10221), with the numbers of BEiT's configs."""
    return {
        "type": "UPerHead",
        "in_channels": [dim] * MAPS,
        "in_index": list(range(MAPS)),
        "pool_scales": (1, 2, 3, 6),
        "channels": recipe.head_channels,
        **_convolutional(classes, recipe),
        "loss_decode": {"type": "CrossEntropyLoss", "loss_weight": 1.0},
    }


def auxiliary(dim: int, *, classes: int, recipe: SegmentationRecipe) -> dict[str, Any]:
    """The auxiliary head on the map of stride 16 that UPerNet trains with."""
    return {
        "type": "FCNHead",
        "in_channels": dim,
        "in_index": 2,
        "channels": min(AUXILIARY_CHANNELS, recipe.head_channels),
        "num_convs": 1,
        "concat_input": False,
        **_convolutional(classes, recipe),
        "loss_decode": {"type": "CrossEntropyLoss", "loss_weight": AUXILIARY_WEIGHT},
    }


def _convolutional(classes: int, recipe: SegmentationRecipe) -> dict[str, Any]:
    # Batch normalisation is synchronised by the engine where several GPUs train.
    channels = recipe.head_channels
    most = min(GROUPS, max(1, channels // LEAST_IN_GROUP))
    groups = next(count for count in range(most, 0, -1) if channels % count == 0)
    norm = {"type": "BN"} if recipe.norm == "BN" else {"type": "GN", "num_groups": groups}
    return {
        "num_classes": classes,
        "dropout_ratio": recipe.head_dropout,
        "norm_cfg": norm,
        "align_corners": False,
    }


def mask2former(dim: int, *, classes: int, recipe: SegmentationRecipe) -> dict[str, Any]:
    """Mask2Former's head over four maps (Cheng et al., arXiv 2112.01527), with the numbers of ViT-Adapter's configs."""
    channels = recipe.head_channels
    heads = channels // 32
    positions = {"num_feats": channels // 2, "normalize": True}
    attention = {"embed_dims": channels, "num_heads": heads, "attn_drop": 0.0, "proj_drop": 0.0, "batch_first": True}
    feed_forward = {
        "embed_dims": channels,
        "feedforward_channels": 4 * channels,
        "ffn_drop": 0.0,
        "act_cfg": {"type": "ReLU", "inplace": True},
    }
    return {
        "type": "Mask2FormerHead",
        "in_channels": [dim] * MAPS,
        "strides": [4, 8, 16, 32],
        "feat_channels": channels,
        "out_channels": channels,
        "num_classes": classes,
        "num_queries": QUERIES,
        "num_transformer_feat_level": 3,
        "align_corners": False,
        "pixel_decoder": {
            "type": "mmdet.MSDeformAttnPixelDecoder",
            "num_outs": 3,
            "norm_cfg": {"type": "GN", "num_groups": GROUPS},
            "act_cfg": {"type": "ReLU"},
            "encoder": {
                "num_layers": 6,
                "layer_cfg": {
                    "self_attn_cfg": {
                        "embed_dims": channels,
                        "num_heads": heads,
                        "num_levels": 3,
                        "num_points": 4,
                        "dropout": 0.0,
                        "batch_first": True,
                    },
                    "ffn_cfg": {**feed_forward, "num_fcs": 2},
                },
            },
            "positional_encoding": positions,
        },
        "enforce_decoder_input_project": False,
        "positional_encoding": positions,
        "transformer_decoder": {
            "return_intermediate": True,
            "num_layers": 9,
            "layer_cfg": {
                "self_attn_cfg": attention,
                "cross_attn_cfg": attention,
                "ffn_cfg": {**feed_forward, "num_fcs": 2, "add_identity": True},
            },
        },
        **_set_losses(classes),
    }


def _set_losses(classes: int) -> dict[str, Any]:
    """Hungarian matching and its losses, on points of the masks."""
    return {
        "loss_cls": {
            "type": "mmdet.CrossEntropyLoss",
            "use_sigmoid": False,
            "loss_weight": 2.0,
            "reduction": "mean",
            "class_weight": [1.0] * classes + [0.1],
        },
        "loss_mask": {"type": "mmdet.CrossEntropyLoss", "use_sigmoid": True, "reduction": "mean", "loss_weight": 5.0},
        "loss_dice": {
            "type": "mmdet.DiceLoss",
            "use_sigmoid": True,
            "activate": True,
            "reduction": "mean",
            "naive_dice": True,
            "eps": 1.0,
            "loss_weight": 5.0,
        },
        "train_cfg": {
            "num_points": 12544,
            "oversample_ratio": 3.0,
            "importance_sample_ratio": 0.75,
            "assigner": {
                "type": "mmdet.HungarianAssigner",
                "match_costs": [
                    {"type": "mmdet.ClassificationCost", "weight": 2.0},
                    {"type": "mmdet.CrossEntropyLossCost", "weight": 5.0, "use_sigmoid": True},
                    {"type": "mmdet.DiceCost", "weight": 5.0, "pred_act": True, "eps": 1.0},
                ],
            },
            "sampler": {"type": "mmdet.MaskPseudoSampler"},
        },
    }
