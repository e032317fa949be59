from __future__ import annotations

import pytest

import tasks
from backbones.errors import UsageError
from backbones.released import RELEASED
from leaderboards import leaks


def test_the_registry_has_every_released_file_and_known_splits() -> None:
    for name in RELEASED:
        declared = leaks.declared(name)
        assert declared
        for each in declared:
            task, _, split = each.partition(":")
            assert split in tasks.get(task).splits
    assert len(leaks._registry()) == len(RELEASED)
    assert leaks.declared("somebody_elses") == ()


@pytest.mark.parametrize(
    ("weights", "task", "split", "reason"),
    [
        ("beit3_base_patch16_480_vqa", "vqav2", "val", "trained on vqav2 val"),
        ("beit3_base_patch16_480_vqa", "vqav2", "rest_val", "trained on vqav2 val"),
        ("beit3_base_patch16_480_vqa", "vqav2", "test-dev", ""),
        ("beit3_base_patch16_480_vqa", "coco_captioning", "test", "may have been in training, as vqav2 val"),
        ("beit3_base_patch16_224_in1k", "imagenet", "val", ""),
        ("beit3_base_patch16_384_f30k_retrieval", "flickr30k_zero_shot", "test", "not zero-shot"),
        ("beit3_base_patch16_384_f30k_retrieval", "flickr30k_retrieval", "test", ""),
        ("beit3_large_itc_patch16_224", "flickr30k_zero_shot", "test", ""),
        ("beit3_large_itc_patch16_224", "coco_zero_shot", "test", "not zero-shot"),
        ("beit3_base_indomain_patch16_224", "coco_captioning", "train", "trained on coco_captioning train"),
        ("beit3_base_indomain_patch16_224", "coco_captioning", "test", ""),
    ],
)
def test_an_overlap_of_released_weights_is_known(weights: str, task: str, split: str, reason: str) -> None:
    found = leaks.overlap(task, split, leaks.declared(weights))
    assert (reason in found) if reason else found == ""


def test_images_that_two_data_sets_share_count() -> None:
    assert "as coco_detection train" in leaks.overlap("coco_captioning", "test", ["coco_detection:train"])
    assert leaks.overlap("coco_detection", "val", ["coco_detection:train"]) == ""  # one task's splits share nothing
    assert leaks.overlap("nlvr2", "dev", ["vqav2:val", "coco_detection:train"]) == ""


@pytest.mark.parametrize("text", ["vqav2", "vqav2:", "vqa:val", ":val"])
def test_a_wrong_declaration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="TASK:SPLIT"):
        leaks.parsed([text], tasks.names())
