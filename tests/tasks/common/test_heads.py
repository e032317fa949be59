"""Initial weights of heads; ranked or summed values are float32 in every precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.linear import packed
from tasks.captioning.beam_search import BeamSearch
from tasks.captioning.model import Captioner, CaptioningLoss
from tasks.classification.model import ImageClassifier
from tasks.common.heads import in_float32, initialise
from tasks.reasoning.model import Reasoner
from tasks.retrieval.model import DualEncoder
from tasks.vqa.model import VisualQuestionAnswering
from tests.backbones.test_multiway import SMALL, pair, small

BARE = dataclasses.replace(SMALL, final_norm=False)
WIDE = dataclasses.replace(SMALL, dim=128)
CUT_STD = 0.0107959  # of a normal of std 0.02 cut at one std


def captioner() -> Captioner:
    return Captioner(
        small(WIDE), mask=49, detokenize=str, loss=CaptioningLoss(), search=BeamSearch(beams=2, max_length=6)
    )


def answerer() -> VisualQuestionAnswering:
    return VisualQuestionAnswering(small(dataclasses.replace(WIDE, final_norm=False)), answers=[""] * 40)


FRESH: dict[str, tuple[Callable[[], BaseModel], dict[str, float]]] = {
    "captioning": (captioner, {"mlm_head": 1}),
    "vqa": (answerer, {"pooler.dense": 1, "head.0": 1, "head.3": 1}),
    "retrieval": (lambda: DualEncoder(small(WIDE)), {"vision_head": 1, "language_head": 1}),
    "nlvr2": (lambda: Reasoner(small(WIDE)), {"head.dense1": 0.001, "head.dense2": 0.001}),
    "imagenet": (lambda: ImageClassifier(small(WIDE), classes=100), {"head": 0.001}),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", FRESH)
def test_fresh_heads_have_the_official_spread(task: str) -> None:
    make, scales = FRESH[task]
    model = make()
    torch.manual_seed(0)
    for name, scale in scales.items():
        layer = model.get_submodule(name)
        weight = layer.weight
        assert weight.abs().max().item() == pytest.approx(0.02 * scale, rel=0.02), (
            name
        )  # the cut is reached, not passed
        assert weight.abs().max() <= 0.02 * scale
        assert weight.std().item() == pytest.approx(CUT_STD * scale, rel=0.08), name
        assert layer.bias is None or not layer.bias.any()


def test_the_cut_leaves_the_share_of_a_normal_within_one_std() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(1000, 1000)
    initialise(layer, scale=0.5)
    scaled = layer.weight / 0.01  # in units of the normal's std
    assert scaled.std().item() == pytest.approx(0.5398, rel=0.005)
    # Of a normal within ±1 std, 0.1915 / 0.3413 lies within ±0.5.
    assert (scaled.abs() < 0.5).float().mean().item() == pytest.approx(0.5610, rel=0.005)


# Which tensor a head takes, and the head, by hand in float32.
Features = Callable[[BaseModel, dict[str, Tensor]], Tensor]


def _first(model: BaseModel, batch: dict[str, Tensor]) -> Tensor:
    return model.beit3(batch["image"], batch["text"]).tokens[:, 0]


def _words(model: BaseModel, batch: dict[str, Tensor]) -> Tensor:
    blocked = torch.zeros(22, 22)
    blocked[:, 17:] = torch.ones(22, 5).triu(-16)
    return model.beit3(batch["image"], batch["text"], attn_mask=blocked).text[batch["masked"].bool()]


def _pairs(model: BaseModel, batch: dict[str, Tensor]) -> Tensor:
    sides = [model.beit3(batch[name], batch["text"]) for name in ("image_a", "image_b")]
    return torch.cat([side.tokens[:, place] for side in sides for place in (0, 17)], dim=-1)


def _patches(model: BaseModel, batch: dict[str, Tensor]) -> Tensor:
    return model.beit3(batch["image"]).tokens[:, 1:].mean(1)


CASES: dict[str, tuple[Callable[[], BaseModel], Features, Callable[[BaseModel, Tensor], Tensor]]] = {
    "captioning": (captioner, _words, lambda model, x: model.mlm_head(x)),
    "vqa": (answerer, _first, lambda model, x: model.head(model.pooler(x))),
    "nlvr2": (FRESH["nlvr2"][0], _pairs, lambda model, x: model.head(x)),
    "imagenet": (FRESH["imagenet"][0], _patches, lambda model, x: model.head(model.fc_norm(x))),
}


def _batch(task: str) -> dict[str, Tensor]:
    image, text = pair()
    if task == "imagenet":
        return {"image": image}
    if task == "nlvr2":
        return {"image_a": image, "image_b": image.flip(0), "text": text}
    masked = {"masked": torch.tensor([[0, 1, 0, 0, 1]] * 2)} if task == "captioning" else {}
    return {"image": image, "text": text, **masked}


@pytest.mark.parametrize("training", [False, True], ids=["packed", "training path"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("task", CASES)
def test_logits_are_computed_in_float32(task: str, dtype: torch.dtype, training: bool) -> None:
    make, features, head = CASES[task]
    model, batch = make().eval(), _batch(task)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    with torch.set_grad_enabled(training), packed(model):
        with torch.autocast("cpu", dtype):
            taken = features(model, batch)
            found = model(**batch)
        expected = head(model, taken.float())
    assert taken.dtype == found.dtype == torch.float32
    # The parts of the batch may be encoded together or apart, so the features agree to their own precision only;
    # a head in half precision would be wrong in the third digit, and its results would be their own roundings.
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    assert (found != found.to(dtype).float()).float().mean() > 0.9


def test_words_of_a_search_are_ranked_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.captioning import beam_search

    seen = []
    candidates = beam_search._candidates
    monkeypatch.setattr(beam_search, "_candidates", lambda scores: seen.append(scores) or candidates(scores))
    model = captioner().eval()
    with torch.inference_mode(), packed(model), torch.autocast("cpu", torch.bfloat16):
        model.decode(pair()[0])
    assert len(seen) > 1  # the first word, whose image is encoded, and later ones from the cache
    for scores in seen:
        likely = scores[scores > -1e8].exp()
        assert scores.dtype == torch.float32
        assert (likely != likely.bfloat16().float()).float().mean() > 0.9


def test_in_float32_leaves_autocast_as_it_was() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = in_float32(nn.Linear(4, 3), torch.randn(2, 4, dtype=torch.bfloat16))
        assert out.dtype == torch.float32
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("task", CASES)
def test_features_that_overflow_are_told_in_prediction(task: str) -> None:
    """float16 ends at 65,504; not a number is no greater than anything, and would be ranked as if it were something."""
    model = CASES[task][0]().eval()
    with torch.no_grad():
        for part in "AB":
            model.beit3.encoder.layers[1].ffn[part].fc2.weight.mul_(1e6)
    batch = _batch(task)
    with torch.inference_mode():
        model(**batch)  # float32 holds it
        with torch.autocast("cpu", torch.float16), pytest.raises(InputError, match="precision=fp32"):
            model(**batch)
