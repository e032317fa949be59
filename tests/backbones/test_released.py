from __future__ import annotations

from pathlib import Path

from backbones.released import RELEASED, released

# Every file that unilm beit3/README.md links to.
LINKED = [
    "beit3_base_patch16_224.pth",
    "beit3_large_patch16_224.pth",
    "beit3_base_itc_patch16_224.pth",
    "beit3_large_itc_patch16_224.pth",
    "beit3_base_indomain_patch16_224.pth",
    "beit3_large_indomain_patch16_224.pth",
    "beit3_base_patch16_224_in1k.pth",
    "beit3_base_indomain_patch16_224_in1k.pth",
    "beit3_large_patch16_224_in1k.pth",
    "beit3_large_indomain_patch16_224_in1k.pth",
    "beit3_base_patch16_480_vqa.pth",
    "beit3_base_indomain_patch16_480_vqa.pth",
    "beit3_large_patch16_480_vqa.pth",
    "beit3_large_indomain_patch16_480_vqa.pth",
    "beit3_large_indomain_patch16_768_vgqaaug_vqa.pth",
    "beit3_base_patch16_224_nlvr2.pth",
    "beit3_base_indomain_patch16_224_nlvr2.pth",
    "beit3_large_patch16_224_nlvr2.pth",
    "beit3_large_indomain_patch16_224_nlvr2.pth",
    "beit3_base_patch16_480_coco_captioning.pth",
    "beit3_base_indomain_patch16_480_coco_captioning.pth",
    "beit3_large_patch16_480_coco_captioning.pth",
    "beit3_base_patch16_480_nocaps.pth",
    "beit3_base_indomain_patch16_480_nocaps.pth",
    "beit3_large_patch16_480_nocaps.pth",
    "beit3_base_patch16_384_coco_retrieval.pth",
    "beit3_large_patch16_384_coco_retrieval.pth",
    "beit3_base_patch16_384_f30k_retrieval.pth",
    "beit3_large_patch16_384_f30k_retrieval.pth",
]


def test_the_released_files_are_known_by_their_names() -> None:
    assert {released(Path("weights") / file) for file in LINKED} == RELEASED
    assert len(LINKED) == len(RELEASED) == 29
    assert released("beit3_large_patch16_480_vqa.safetensors") == "beit3_large_patch16_480_vqa"  # converted
    assert released("final.safetensors") == released("beit3_base_patch16_224_mine.pth") == ""
