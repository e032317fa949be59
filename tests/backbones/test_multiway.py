from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import backbones
from backbones import MultiwayConfig, UsageError, weights
from backbones.cache import KeyValueCache
from backbones.multiway import Multiway

TOLERANCE = 1e-5  # max abs error, float32
SMALL = MultiwayConfig(
    image_size=32, patch_size=8, dim=32, layers=4, heads=4, ffn_dim=64, vocab_size=50, max_text_positions=40
)
SMALL_GIANT = dataclasses.replace(SMALL, attention="shared", sub_ln=False, vl_layers=2)


def official_config(meta: dict, **changes: object) -> MultiwayConfig:
    return MultiwayConfig(
        image_size=meta["image_size"],
        patch_size=meta["patch_size"],
        dim=meta["dim"],
        layers=meta["layers"],
        heads=meta["heads"],
        ffn_dim=meta["ffn"],
        vocab_size=meta["vocab_size"],
        max_text_positions=meta["max_text_positions"],
        layer_norm_eps=meta["layernorm_eps"],
        **changes,
    )


def small(config: MultiwayConfig = SMALL, seed: int = 0) -> Multiway:
    """Random weights in every tensor, so that a wrong expert, norm or bias shows."""
    torch.manual_seed(seed)
    model = Multiway(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def pair(batch: int = 2, length: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(batch, 3, 32, 32, generator=generator)
    return image, torch.randint(3, 50, (batch, length), generator=generator)


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training path"])
@pytest.mark.parametrize("case", ["encoder_final_norm", "encoder_no_final_norm"])
def test_equals_the_official_encoder(reference: Path, reference_meta: dict, case: str, grad: bool) -> None:
    final_norm = reference_meta["cases"][case]["normalize_output"]
    model = Multiway(official_config(reference_meta, final_norm=final_norm)).eval()
    report = weights.load(model, reference / f"{case}.weights.safetensors")
    assert report.ignored == report.fresh == ()
    io = load_file(reference / f"{case}.io.safetensors")
    text = {"text": io["text_ids"], "text_padding": io["text_padding"]}
    with torch.set_grad_enabled(grad):
        found = {
            "out_image": model(io["image"]),
            "out_image_masked": model(io["image"], vision_masked=io["vision_masked"]),
            "out_text": model(**text),
            "out_pair": model(io["image"], **text),
            "out_pair_attn_mask": model(io["image"], **text, attn_mask=io["attn_mask"]),
        }
    for name, encoded in found.items():
        # Rows at padded text positions are compared too.
        assert (encoded.tokens - io[name]).abs().max() <= TOLERANCE, name


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"), [("beit3_base_patch16_224", 220_987_392), ("beit3_large_patch16_224", 672_702_464)]
)
def test_released_sizes_have_the_official_parameter_counts(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert count(Multiway(backbones.config(name))) == parameters


def test_giant_has_the_papers_parameter_counts() -> None:
    with torch.device("meta"):
        model = Multiway(backbones.config("beit3_giant_patch14_224"))
    layers = model.encoder.layers
    millions = {
        "V-FFN": sum(count(layer.ffn["A"]) for layer in layers) / 1e6,
        "L-FFN": sum(count(layer.ffn["B"]) for layer in layers) / 1e6,
        "VL-FFN": sum(count(layer.ffn["VL"]) for layer in layers if "VL" in layer.ffn) / 1e6,
        "attention": sum(count(layer.self_attn) for layer in layers) / 1e6,
    }
    assert {name: round(value) for name, value in millions.items()} == {
        "V-FFN": 692,
        "L-FFN": 692,
        "VL-FFN": 52,
        "attention": 317,
    }
    assert [layer.index for layer in layers if "VL" in layer.ffn] == [37, 38, 39]
    heads = 2 * (64010 + 8192) * 1408 // 2 + 64010 + 8192  # masked words and masked patches
    assert round((count(model) + heads) / 1e9, 1) == 1.9


def test_names_of_all_resolutions_differ_only_in_the_position_table() -> None:
    with torch.device("meta"):
        base, wide = (Multiway(backbones.config(f"beit3_base_patch16_{size}")) for size in (224, 480))
    shapes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (base, wide)]
    assert {n for n in shapes[0] if shapes[0][n] != shapes[1][n]} == {"encoder.embed_positions.A.weight"}
    assert shapes[1]["encoder.embed_positions.A.weight"] == (903, 768)


def test_vision_language_experts_see_every_token_of_a_pair_and_nothing_else() -> None:
    model, (image, text) = small(SMALL_GIANT), pair()
    with torch.no_grad():
        before = model(image).tokens, model(text=text).tokens, model(image, text).tokens
        for layer in model.encoder.layers:
            if layer.has_pair_expert:
                for parameter in [*layer.ffn["VL"].parameters(), *layer.final_layer_norm["VL"].parameters()]:
                    parameter.add_(0.5)
        after = model(image).tokens, model(text=text).tokens, model(image, text).tokens
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[1], after[1])
        assert ((before[2] - after[2]).abs().amax((0, 2)) > 1e-3).all()
        # In a pair, the modality experts of those layers rest.
        for layer in model.encoder.layers[2:]:
            for parameter in [*layer.ffn["A"].parameters(), *layer.ffn["B"].parameters()]:
                parameter.add_(0.5)
        assert torch.equal(model(image, text).tokens, after[2])


def test_shared_attention_has_one_set_of_projections() -> None:
    keys = small(SMALL_GIANT).state_dict()
    assert "encoder.layers.0.self_attn.q_proj.weight" in keys
    assert not any("self_attn" in key and (".A." in key or ".B." in key) for key in keys)
    assert "encoder.layers.0.self_attn.inner_attn_ln.weight" not in keys


def test_standard_form_treats_both_modalities_alike() -> None:
    model = small(dataclasses.replace(SMALL, experts="standard", attention="shared"))
    assert not any(".ffn.A" in key or "_proj.A" in key or "norm.A" in key for key in model.state_dict())
    image, _ = pair()
    # The same embeddings must come out the same whichever modality they pose as.
    with torch.no_grad():
        tokens = model.embed_image(image, None)
        as_image, as_text = {"A": tokens}, {"B": tokens}
        for layer in model.encoder.layers:
            as_image, as_text = layer(as_image, None, None), layer(as_text, None, None)
    assert torch.equal(as_image["A"], as_text["B"])


def test_standard_form_refuses_separate_attention() -> None:
    with pytest.raises(UsageError, match="attention='shared'"):
        dataclasses.replace(SMALL, experts="standard")


def one_way_mask(image_tokens: int, text_tokens: int) -> torch.Tensor:
    """Captioning: image to image, text to image and to earlier text."""
    total = image_tokens + text_tokens
    mask = torch.zeros(total, total)
    mask[:image_tokens, image_tokens:] = 1
    mask[image_tokens:, image_tokens:] = torch.triu(torch.ones(text_tokens, text_tokens), diagonal=1)
    return mask


@pytest.mark.parametrize("config", [SMALL, SMALL_GIANT], ids=["decoupled", "shared"])
def test_cached_decoding_equals_one_masked_pass(config: MultiwayConfig) -> None:
    model, (image, text) = small(config).double(), pair(length=6)
    image = image.double()
    mask = one_way_mask(17, 6)
    with torch.no_grad():
        whole = model(image, text, attn_mask=mask).text
        cache = KeyValueCache(capacity=24)
        model(image, cache=cache)
        steps = [model(text=text[:, :2], cache=cache, attn_mask=mask[17:19, :19]).tokens]
        for position in range(2, 6):
            # A token that is forgotten again must leave no trace.
            place = torch.tensor([position])
            model(text=text[:, :1], text_positions=place, cache=cache)
            cache.truncate(17 + position)
            token = text[:, position : position + 1]
            steps.append(model(text=token, text_positions=place, cache=cache).tokens)
    assert len(cache) == 23
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-12, rtol=0)


def test_cached_alternatives_side_by_side_equal_each_alone() -> None:
    """Two continuations of one text in one call: each sees the image, its own token and nothing of the other."""
    model, (image, text) = small(), pair(length=3)
    blocked = torch.zeros(2, 2, 19, dtype=torch.bool)
    blocked[:, 0, 18] = blocked[:, 1, 17] = True
    with torch.no_grad():
        cache = KeyValueCache(capacity=19)
        model(image, cache=cache)
        both = model(text=text[:, 1:], text_positions=torch.tensor([0, 0]), attn_mask=blocked, cache=cache).tokens
        for index in range(2):
            alone = KeyValueCache(capacity=18)
            model(image, cache=alone)
            expected = model(text=text[:, 1 + index : 2 + index], cache=alone).tokens[:, 0]
            torch.testing.assert_close(both[:, index], expected, atol=1e-5, rtol=0)
        with pytest.raises(ValueError, match="cache is for 19 tokens"):
            model(text=text[:, :1], cache=cache)


def test_padding_does_not_reach_other_tokens() -> None:
    model, (image, text) = small(), pair(length=6)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[:, 4:] = True
    with torch.no_grad():
        short = model(image, text[:, :4]).tokens
        padded = model(image, text, text_padding=padding).tokens[:, :21]
    torch.testing.assert_close(padded, short, atol=1e-5, rtol=0)


def test_a_mask_without_padding_changes_nothing() -> None:
    model, (image, text) = small(), pair()
    with torch.no_grad():
        for given in (image, None):
            masked = model(given, text, text_padding=torch.zeros_like(text)).tokens
            torch.testing.assert_close(model(given, text).tokens, masked, atol=1e-5, rtol=0)


def test_maps_are_patch_tokens_of_the_layers_in_their_place() -> None:
    model, (image, _) = small(), pair()
    with torch.no_grad():
        first, last = model.maps(image, layers=(1, 3))
        tokens = model(image, layers=(1,)).layers[0]
        assert first.shape == last.shape == (2, 32, 4, 4)
        assert torch.equal(first[:, :, 2, 1], tokens[:, 1 + 2 * 4 + 1])
        # The last layer's map has no final norm.
        bare = Multiway(dataclasses.replace(SMALL, final_norm=False)).eval()
        bare.load_state_dict(model.state_dict(), strict=False)
        assert torch.equal(last.flatten(2).transpose(1, 2), bare(image).tokens[:, 1:])


def test_maps_of_an_oblong_image() -> None:
    model = small()
    with torch.no_grad():
        (wide,) = model.maps(torch.randn(1, 3, 24, 64), layers=(3,))
    assert wide.shape == (1, 32, 3, 8)


def test_drop_path_drops_whole_samples_in_both_modalities_and_keeps_the_mean() -> None:
    config = dataclasses.replace(SMALL, drop_path=0.4, layers=2)
    first, layer = small(config).train().encoder.layers
    assert layer.drop_path == pytest.approx(0.4)
    assert first.drop_path == 0
    ones = {"A": torch.ones(20_000, 2, 1), "B": torch.ones(20_000, 3, 1)}
    torch.manual_seed(0)
    out = layer._residual({name: torch.zeros_like(part) for name, part in ones.items()}, ones, half=0)
    image_part, text_part = out["A"].flatten(1), out["B"].flatten(1)
    assert torch.equal(image_part[:, 0], text_part[:, 2])
    assert torch.equal(image_part[:, 0], image_part[:, 1])
    assert image_part.mean() == pytest.approx(1.0, abs=0.02)
    assert (image_part[:, 0] == 0).float().mean() == pytest.approx(0.4, abs=0.02)


def test_activation_checkpointing_changes_no_gradient() -> None:
    image, text = pair()
    gradients = []
    for checkpointed in (False, True):
        model = small(dataclasses.replace(SMALL, checkpoint_activations=checkpointed, drop_path=0.3)).train()
        torch.manual_seed(5)
        model(image, text).tokens.square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        if gradient is None:
            assert gradients[1][name] is None
        else:
            torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_images_touch_no_frozen_parameter_and_every_other() -> None:
    model, (image, _) = small(), pair()
    model.freeze_unused_by_images()
    model(image).tokens.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_random_weights_have_magnetos_spread() -> None:
    torch.manual_seed(0)
    layer = Multiway(dataclasses.replace(SMALL, dim=256, ffn_dim=512, layers=6)).encoder.layers[3]
    plain, gain = (2 / 512) ** 0.5, np.log(12) ** 0.5
    assert layer.self_attn.q_proj["B"].weight.std().item() == pytest.approx(plain, rel=0.02)
    assert layer.self_attn.v_proj["B"].weight.std().item() == pytest.approx(plain * gain, rel=0.02)
    assert layer.ffn["A"].fc1.weight.std().item() == pytest.approx((2 / 768) ** 0.5 * gain, rel=0.02)
    assert layer.ffn["A"].fc1.bias.abs().max() == 0


def test_bad_configurations_are_refused() -> None:
    with pytest.raises(UsageError, match="multiple of the patch size"):
        backbones.resolve("multiway_nano", image_size=60)
    with pytest.raises(UsageError, match="beit3_base_patch16_224"):
        backbones.build("beit3_base_patch16_223")
    with pytest.raises(ValueError, match="image, a text or both"):
        small()()


HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


@HALF
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training path"])
def test_streams_stay_float32_under_autocast(dtype: torch.dtype, grad: bool) -> None:
    model, (image, text) = small(), pair()
    masked = torch.zeros(2, 16)
    masked[:, 3] = 1
    inputs, updates = [], []
    for layer in model.encoder.layers:
        layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        layer.ffn["A"].register_forward_hook(lambda *call: updates.append(call[-1]))
    with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype):
        encoded = model(image, text, vision_masked=masked, layers=(0, 3))
    # What layers add is in half precision, so nothing else keeps the sums in float32.
    assert {update.dtype for update in updates} == {dtype}
    assert {part.dtype for streams in inputs for part in streams.values()} == {torch.float32}
    assert {tokens.dtype for tokens in (encoded.tokens, *encoded.layers)} == {torch.float32}
    table = model.encoder.embed_positions["A"].weight
    first = inputs[0]["A"]
    assert torch.equal(first[0, 0], model.vision_embed.cls_token[0, 0] + table[2])
    assert torch.equal(first[0, 4], model.vision_embed.mask_token[0, 0] + table[6])
    # Neither the sums nor the final norm are rounded to half precision on the way out.
    for tokens in (encoded.layers[1], encoded.tokens):
        assert (tokens != tokens.to(dtype).float()).float().mean() > 0.9


@HALF
def test_cached_decoding_under_autocast_is_near_float32(dtype: torch.dtype) -> None:
    model, (image, text) = small(), pair(length=6)
    mask = one_way_mask(17, 6)

    def decoded() -> torch.Tensor:
        cache = KeyValueCache(capacity=23)
        model(image, cache=cache)
        blocked = mask[17:]
        return model(text=text, cache=cache, attn_mask=blocked).tokens

    with torch.inference_mode():
        expected = decoded()
        with torch.autocast("cpu", dtype):
            found, plain = decoded(), model(image, text, attn_mask=mask).text
    assert found.dtype == torch.float32
    steps = 1 / 2**8 if dtype == torch.bfloat16 else 1 / 2**11
    assert (found - expected).abs().mean() < 4 * steps * expected.abs().mean()
    assert (found - plain).abs().mean() < 4 * steps * expected.abs().mean()


def test_what_may_not_be_attended_to_is_not_in_float16_either() -> None:
    """float16 ends at 65504: -1e8 would be minus infinity, and a row in which all is blocked not a number."""
    model, (image, text) = small(), pair()
    padding = torch.tensor([[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]])
    mask = one_way_mask(17, 5)
    mask[20] = 1
    with torch.no_grad():
        expected = model(image, text, text_padding=padding, attn_mask=mask).tokens
        with torch.autocast("cpu", torch.float16):
            found = model(image, text, text_padding=padding, attn_mask=mask).tokens
    assert found.isfinite().all()
    # What follows the blocked row sees it; nothing says what a row without anything to attend to should be.
    assert (found - expected)[:, :20].abs().max() < 0.01 * expected.abs().max()
