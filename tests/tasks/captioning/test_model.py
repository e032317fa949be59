from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import backbones
from backbones import MultiwayConfig, UsageError, weights
from backbones.multiway import Multiway
from backbones.tokenizer import BOS, EOS, PAD
from tasks.captioning.beam_search import BeamSearch
from tasks.captioning.model import Captioner, CaptioningLoss
from tests.backbones.test_multiway import SMALL, SMALL_GIANT, TOLERANCE, official_config, small
from tests.support import official as official_files

CASE = "captioning"


def official(reference: Path, meta: dict, **search: float) -> Captioner:
    case = meta["cases"][CASE]
    model = Captioner(
        Multiway(official_config(meta)),
        mask=case["mask_id"],
        detokenize=str,
        loss=CaptioningLoss(
            smoothing=case["label_smoothing"],
            drop_worst=case["drop_worst_ratio"],
            drop_worst_after=case["drop_worst_after"],
        ),
        search=BeamSearch(**search),
    ).eval()
    report = weights.load(model, reference / f"{CASE}.weights.safetensors")
    assert report.ignored == report.fresh == ()
    return model


def words(ids: torch.Tensor, mask: int) -> list[int]:
    return [token for token in ids.tolist() if token not in (BOS, PAD, EOS, mask)]


def test_logits_and_losses_equal_the_official_ones(reference: Path, reference_meta: dict) -> None:
    model = official(reference, reference_meta)
    io = load_file(reference / f"{CASE}.io.safetensors")
    inputs = {
        "image": io["image"],
        "text": io["masked_text_ids"],
        "text_padding": io["text_padding"],
        "masked": io["masked_positions"],
    }
    with torch.no_grad():
        assert (model(**inputs) - io["logits_at_masked"]).abs().max() <= TOLERANCE
        for step in (0, 12_001):
            model.step = step
            loss = model(**inputs, target=io["text_ids"], mode="loss")["loss"]
            assert abs(loss - io[f"loss_step_{step}"]) <= TOLERANCE
    assert abs(io["loss_step_0"] - io["loss_step_12001"]) > 0.01  # dropping the worst shows


@pytest.mark.parametrize("beams", ["beam3", "beam1", "beam5"])
def test_captions_equal_the_official_ones(reference: Path, reference_meta: dict, beams: str) -> None:
    case = reference_meta["cases"][CASE]
    context = case["beams"][beams]
    model = official(
        reference,
        reference_meta,
        beams=context["num_beams"],
        length_penalty=context["length_penalty"],
        max_length=context["max_len"],
    )
    io = load_file(reference / f"{CASE}.io.safetensors")
    with torch.inference_mode():
        ours = model.decode(io["decode_image"])
    assert ours.shape == io[f"decoded_{beams}"].shape
    for mine, theirs in zip(ours, io[f"decoded_{beams}"], strict=True):
        assert words(mine, case["mask_id"]) == words(theirs, case["mask_id"])
        assert mine[0] == BOS
        assert (mine == EOS).sum() == 1


def captioner(config: MultiwayConfig = SMALL, *, ends: float = 2.3, seed: int = 2, **search: float) -> Captioner:
    """ends: added to the logit of the end token, so that some captions end and some do not with the head of `seed`."""
    model = Captioner(
        small(config), mask=49, detokenize=str, loss=CaptioningLoss(), search=BeamSearch(**{"max_length": 9} | search)
    )
    with torch.no_grad():
        model.mlm_head.weight.normal_(std=0.4, generator=torch.Generator().manual_seed(seed))
        model.mlm_head.bias[EOS] += ends
    return model.eval()


@torch.no_grad()
def by_hand(model: Captioner, image: torch.Tensor, *, max_length: int) -> list[int]:
    """Greedy decoding without cache: the whole text is encoded again for each word."""
    text = [BOS]
    while len(text) + 1 < max_length:
        ids = torch.tensor([[*text, model.mask]])
        blocked = torch.zeros(17 + ids.shape[1], 17 + ids.shape[1])
        blocked[:17, 17:] = 1
        blocked[17:, 17:] = torch.ones(ids.shape[1], ids.shape[1]).triu(1)
        word = model.mlm_head(model.beit3(image, ids, attn_mask=blocked).text[0, -1]).argmax().item()
        if word == EOS:
            return text[1:]
        text.append(word)
    return text[1:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "ends", "seed"), [(SMALL, 2.3, 2), (SMALL_GIANT, 0.8, 1)], ids=["decoupled", "giant"]
)
def test_one_beam_is_greedy_decoding_of_the_whole_text(config: MultiwayConfig, ends: float, seed: int) -> None:
    """Without a length penalty's help an early end cannot be overtaken, so the first end is the caption."""
    model = captioner(config, ends=ends, seed=seed, beams=1, length_penalty=0.0)
    images = 4 * torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    decoded = [words(ids, model.mask) for ids in model.decode(images)]
    greedy = [by_hand(model, image[None], max_length=9) for image in images]
    ended = [number for number, caption in enumerate(greedy) if len(caption) < 6]
    assert 2 <= len(ended) < 12  # some end, some run to the limit
    for number in range(12):
        # At the limit the official code drops the last word.
        assert decoded[number] == [w for w in greedy[number][:6] if w not in (BOS, PAD, model.mask)], number


def test_a_caption_does_not_depend_on_its_company() -> None:
    model = captioner(beams=3)
    images = 4 * torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    together = model.decode(images)
    for number in range(6):
        assert torch.equal(model.decode(images[number : number + 1])[0], together[number])


def test_records_are_texts() -> None:
    model = captioner()
    model._detokenize = lambda ids: f"{len(ids)} ids"
    assert model(torch.randn(2, 3, 32, 32), mode="predict") == [{"caption": "9 ids"}] * 2


@pytest.mark.parametrize(("size", "count"), [("base", 270_751_754), ("large", 739_033_610)])
def test_parameter_counts(size: str, count: int) -> None:
    with torch.device("meta"):
        backbone = backbones.build(f"beit3_{size}_patch16_480")
        model = Captioner(backbone, mask=64_001, detokenize=str, loss=CaptioningLoss(), search=BeamSearch())
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_an_official_checkpoint_loads_whole(tmp_path: Path) -> None:
    shapes = official_files.trunk(SMALL, final_norm=True)
    shapes |= official_files.linear("mlm_head", SMALL.dim, SMALL.vocab_size)
    state = official_files.write(tmp_path / "tuned.pth", shapes)
    model = captioner()
    report = weights.load(model, tmp_path / "tuned.pth")
    assert (report.loaded, report.fresh, report.ignored) == (len(state), (), ())
    # A pretrained file's image head is of no use, its text head is taken over.
    state = official_files.write(
        tmp_path / "pretrained.pth", shapes | official_files.linear("mim_head", SMALL.dim, 8192)
    )
    report = weights.load(model, tmp_path / "pretrained.pth", new_heads=True)
    assert report.ignored == ("mim_head.weight", "mim_head.bias")
    assert torch.equal(model.mlm_head.weight, state["mlm_head.weight"])


@pytest.mark.parametrize("wrong", [{"beams": 0}, {"max_length": 2}])
def test_a_search_for_nothing_is_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        BeamSearch(**wrong)


@pytest.mark.parametrize("step", [0, 1])
def test_the_loss_is_the_mean_over_the_official_gpus_each_without_its_worst_tokens(step: int) -> None:
    """Groups of 4 of 10 samples; the last two samples are a group that counts half as much."""
    torch.manual_seed(0)
    losses, masked = torch.rand(10, 7) * torch.arange(1, 11)[:, None], torch.rand(10, 7) < 0.7
    loss = CaptioningLoss(drop_worst=0.2, drop_worst_after=0, group=4)
    expected = 0.0
    for samples, weight in ((slice(0, 4), 0.4), (slice(4, 8), 0.4), (slice(8, 10), 0.2)):
        values = losses[samples][masked[samples]]
        if step == 1:
            values = values.topk(int(len(values) * 0.8), largest=False).values
        expected += weight * values.mean()
    factors = loss.factors(losses, masked, step=step)
    torch.testing.assert_close((factors * losses).sum(), expected)
    assert factors.sum().item() == pytest.approx(1.0)
    assert not factors[~masked].any()
