"""Forecast of the memory that a training takes in each process, before anything is read.

Weights, gradients and AdamW's two moments are counted on a model without memory. Activations follow from the
architecture: what PyTorch's autograd keeps of a layer of `backbones.layer` for the backward pass (`layer_numbers`; the
way of counting is that of Korthikanti et al., arXiv 2205.05198, section 4.1, here without its term of the attention
scores, which fused attention does not keep).

The peak is the sum of all but the activations with the larger of these and what AdamW's update takes. Activations are
freed layer by layer while gradients are made, but what they leave are holes among the moments, which an allocator
seldom fills (`python -m tests.benchmarks.memory` compares). With checkpointed activations the C library's own holes are
added on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from mmengine.model import BaseModel
from torch import nn

import backbones
import tasks
from backbones.config import MultiwayConfig
from backbones.errors import UsageError
from harness.batch import accumulation
from harness.choice import choose
from harness.device import precision
from harness.experiment import backbone_options
from tasks.adapter import Pass, TaskContext
from tasks.pretraining import recipes as stages
from tasks.pretraining.model import MaskedDataModel
from tasks.pretraining.recipe import ContrastiveRecipe, MaskedDataRecipe
from tasks.recipe import Recipe, changed
from tasks.retrieval.model import DualEncoder

FLOAT, HALF = 4, 2  # bytes
MOMENTS = 2  # of AdamW, for each weight
# In place of the labels of tasks whose heads depend on their number: that of the benchmark.
LABELS = {"imagenet": range(1000), "vqav2": SimpleNamespace(answers=range(3129))}
CODES = 8192  # of the image tokenizer that BEiT-3 was pretrained with


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Bytes of one process.

    activations: kept for the backward pass of a micro-batch. passing: gradients of activations, and logits, which the
    backward pass has at once. updating: what AdamW computes beside its state. gathered: weights and gradients of a
    sharded training that are whole for a moment, or the buckets in which several processes add their gradients up.
    fixed: weights that are not trained with the model.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    fixed: int
    activations: int
    passing: int
    updating: int
    gathered: int
    peak: int


def forecast(
    task: str, *, backbone: str, recipe: str | None = None, changes: Sequence[str] = (), processes: int = 1
) -> Forecast:
    """Forecast the memory of a training.

    Args:
        task: of fine-tuning, or a recipe of pretraining.
        backbone, recipe, changes: see `harness.experiment.plan`.
        processes: that share the batch.

    Raises:
        UsageError: an unknown name; a backbone or a task whose activations no formula is known of.
    """
    if backbone.startswith(backbones.TIMM):
        raise UsageError(f"The activations of {backbone} are not known: name a Multiway backbone.")
    if task in stages.RECIPES:
        chosen = changed(stages.get(task), changes)
        model, passes, fixed = _stage(chosen, backbone)
    else:
        adapter = tasks.get(task)
        chosen = changed(choose(adapter, backbone=backbone, weights=None, given=recipe)[0], changes)
        passes, fixed = adapter.passes(chosen), 0
        if passes is None:
            raise UsageError(f"The activations of the heads of {task} with recipe {chosen.name} are not known.")
        words = SimpleNamespace(mask=0, decode=None)
        with torch.device("meta"):
            body = backbones.build(backbone, **backbone_options(adapter, backbone, chosen))
            context = TaskContext(root=None, recipe=chosen, tokenizer=words, labels=LABELS.get(task))
            model = adapter.model(body, context)
    return _forecast(model, passes, chosen, processes=processes, fixed=fixed)


def _stage(recipe: Recipe, backbone: str) -> tuple[BaseModel, Sequence[Pass], int]:
    """Model, passes of a sample of each kind of data, and bytes of an image tokenizer."""
    options = {
        "image_size": recipe.image_size, "drop_path": recipe.drop_path,
        "checkpoint_activations": recipe.checkpoint_activations,
    }  # fmt: skip
    with torch.device("meta"):
        if isinstance(recipe, ContrastiveRecipe):
            return (
                DualEncoder(backbones.build(backbone, **options)),
                (Pass(image=True), Pass(text=recipe.max_tokens)),
                0,
            )
        if not isinstance(recipe, MaskedDataRecipe):
            raise UsageError(f"The memory of {recipe.name} is not known: name a masked or a contrastive stage.")
        body = backbones.build(backbone, **options, **recipe.backbone_options())
        config = body.config
        pixels = recipe.image_target == "pixels"
        outputs = 3 * config.patch_size**2 if pixels else CODES
        model = MaskedDataModel(body, _Target(outputs))
    tokenizer = config.layers * (4 * config.dim**2 + 2 * config.dim * config.ffn_dim)
    return model, _masked_passes(recipe, config.grid**2, outputs), 0 if pixels else FLOAT * tokenizer


class _Target(nn.Module):
    """In place of an image tokenizer, of which the model asks the number of outputs alone."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs


def _masked_passes(recipe: MaskedDataRecipe, patches: int, outputs: int) -> Sequence[Pass]:
    image, text = recipe.image_mask_ratio * patches, recipe.pair_mask_ratio * recipe.max_tokens
    both = 1.0 if recipe.pair_masking == "joint" else 0.5  # of the pairs have this side masked
    sides = recipe.pair_modalities
    share = both if len(sides) == 2 else 1.0
    of_kind = {
        "images": Pass(image=True, logits=image * outputs),
        "texts": Pass(text=recipe.text_length, words=recipe.text_mask_ratio * recipe.text_length),
        "pairs": Pass(
            image=True, text=recipe.max_tokens, logits=share * image * outputs * ("image" in sides),
            words=share * text * ("text" in sides),
        ),
    }  # fmt: skip
    return [of_kind[kind] for kind in recipe.kinds]


def _forecast(model: BaseModel, passes: Sequence[Pass], recipe: Recipe, *, processes: int, fixed: int) -> Forecast:
    config: MultiwayConfig = model.beit3.config
    half = precision(recipe.precision, torch.device("cuda" if torch.cuda.is_available() else "cpu")) != "fp32"
    numbers = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    in_layers = [sum(each.numel() for each in layer.parameters()) for layer in model.beit3.repeated]
    sharded = recipe.shard and processes > 1
    parts = processes if sharded else 1
    weights, gradients = FLOAT * numbers // parts, FLOAT * trained // parts
    gathered = FLOAT * trained if processes > 1 else 0
    if sharded:
        root = numbers - sum(in_layers)
        # The rest with its gradients; a layer, the one that is fetched meanwhile, and the gradients of one.
        gathered = 2 * FLOAT * root + max(in_layers) * (2 * (HALF if half else FLOAT) + FLOAT)
    activations = sum(_kept(config, each, recipe, half=half) for each in passes) * recipe.micro_batch
    if half and not sharded:
        activations += HALF * numbers  # autocast's copies of the weights; a shard is gathered in that type
    passing = max(_passing(config, each, recipe, half=half) for each in passes) * recipe.micro_batch
    average = weights if recipe.ema_decay else 0
    optimizer = MOMENTS * gradients
    always = weights + gradients + optimizer + average + fixed
    largest = max(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    # One parameter after the other on a CPU, and all at once where their updates are computed together.
    updating = gradients if sharded or torch.cuda.is_available() else 2 * FLOAT * largest
    accumulation(recipe, processes=processes)  # refuses a batch that cannot be split
    return Forecast(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        average=average,
        fixed=fixed,
        activations=int(activations),
        passing=int(passing),
        updating=updating,
        gathered=int(gathered),
        peak=int(always + gathered + max(activations + passing, updating)),
    )


def layer_numbers(config: MultiwayConfig) -> tuple[int, int]:
    """Numbers that autograd keeps of a token in one layer: of the width `dim`, and of the width `ffn_dim`.

    Of `dim`: the layer's input (for its LayerNorm), the normed input of the three projections, query, key, value, their
    mean, the input of the feed-forward half and its normed form; with sub-LayerNorm the normed mean too. Of `ffn_dim`:
    GELU's input and output, and with sub-LayerNorm the normed output.
    """
    return (9, 3) if config.sub_ln else (8, 2)


def _tokens(config: MultiwayConfig, each: Pass) -> int:
    return (1 + config.grid**2 if each.image else 0) + each.text


def _of_layer(config: MultiwayConfig, *, half: bool) -> int:
    """Bytes that are kept of a token in a layer.

    In half precision as CUDA's autocast computes: the residual stream, the inputs of LayerNorms and what they give are
    float32, and each linear layer keeps a copy of its input in half precision.
    """
    of_dim, of_ffn = layer_numbers(config)
    if not half:
        return FLOAT * (of_dim * config.dim + of_ffn * config.ffn_dim)
    halves = 3 + 3 + 1 + 1 + 1  # the projections' inputs, query, key, value, mean, and the inputs of out_proj and fc1
    of_dim, of_ffn = HALF * halves + 2 * FLOAT, 2 * HALF
    if config.sub_ln:
        of_dim, of_ffn = of_dim + FLOAT, of_ffn + FLOAT + HALF
    return of_dim * config.dim + of_ffn * config.ffn_dim


def _kept(config: MultiwayConfig, each: Pass, recipe: Recipe, *, half: bool) -> float:
    """Bytes that are kept of a pass of one sample, its image included."""
    tokens, of_layer = _tokens(config, each), _of_layer(config, half=half)
    layers = config.layers * of_layer
    if recipe.checkpoint_activations:
        layers = config.layers * FLOAT * config.dim + of_layer  # their inputs, and one that is computed again
    image = 3 * recipe.image_size**2 * FLOAT if each.image else 0
    return tokens * (layers + 2 * FLOAT * config.dim) + image + each.kept * FLOAT * _logits(config, each)


def _passing(config: MultiwayConfig, each: Pass, recipe: Recipe, *, half: bool) -> float:
    """Bytes of gradients that a backward pass has at once: of a layer's activations, or of the logits."""
    size = HALF if half else FLOAT
    layer = _tokens(config, each) * (2 * size * config.ffn_dim + 2 * FLOAT * config.dim)
    return max(layer, 2 * FLOAT * _logits(config, each))


def _logits(config: MultiwayConfig, each: Pass) -> float:
    return each.logits + each.words * config.vocab_size


def in_words(found: Forecast) -> list[tuple[str, str]]:
    """Parts of a forecast that take some memory, with their GiB."""
    words = {
        "weights": "weights", "gradients": "gradients", "optimizer": "optimizer", "average": "averaged weights",
        "fixed": "image tokenizer", "activations": "activations", "passing": "gradients of activations",
        "updating": "update", "gathered": "exchange between processes",
        "peak": "peak, besides the program and its data",
    }  # fmt: skip
    values = {text: getattr(found, name) for name, text in words.items()}
    return [(text, f"{value / 2**30:.2f}") for text, value in values.items() if value]
