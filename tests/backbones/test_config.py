"""Names of backbones with fields changed."""

from __future__ import annotations

import pytest

import backbones
from backbones.config import config, with_fields
from backbones.errors import UsageError


def test_a_name_may_change_fields_of_the_network() -> None:
    changed = config("multiway_nano+experts=standard+attention=shared+layers=2+sub_ln=false")
    assert (changed.experts, changed.attention, changed.layers, changed.sub_ln) == ("standard", "shared", 2, False)
    assert changed.dim == config("multiway_nano").dim
    assert backbones.bundled_tokenizer("multiway_nano+layers=2") == backbones.bundled_tokenizer("multiway_nano")
    assert backbones.skeleton("multiway_nano+layers=2").num_layers == 2


def test_a_later_field_takes_the_place_of_an_earlier_one() -> None:
    assert with_fields("multiway_nano+layers=2", ["heads=6", "layers=4"]) == "multiway_nano+heads=6+layers=4"
    assert with_fields("multiway_nano", []) == "multiway_nano"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("multiway_nano+layer=2", "Did you mean layers"),
        ("multiway_nano+image_size=32", "backbone field 'image_size'"),
        ("multiway_nano+layers=two", "layers is a whole number, not 'two'"),
        ("multiway_nano+layers", "layers is a whole number, not ''"),
        ("multiway_nano+sub_ln=0", "sub_ln is true or false, not '0'"),
        ("multiway_nano+experts=standrd", "Did you mean standard"),
        ("multiway_nano+experts=standard", "goes with attention='shared'"),
        ("multiway_nana+layers=2", "Did you mean multiway_nano"),
    ],
)
def test_a_wrong_field_is_told(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(name)
