"""The checkpoints that BEiT-3's authors released, by the names of their files (unilm beit3/README.md).

They publish no hashes; a row has the file's own beside the name.
"""

from __future__ import annotations

from pathlib import PurePath

_BASE, _LARGE = "beit3_base", "beit3_large"
PRETRAINED = frozenset(f"{size}{kind}_patch16_224" for size in (_BASE, _LARGE) for kind in ("", "_itc", "_indomain"))
RELEASED = PRETRAINED | frozenset(
    {
        # fine-tuned on ImageNet-1k, NLVR2, VQAv2, COCO captions, NoCaps, and for retrieval on COCO and Flickr30K
        *(
            f"{size}{kind}_patch16_{end}"
            for size in (_BASE, _LARGE)
            for kind in ("", "_indomain")
            for end in ("224_in1k", "224_nlvr2", "480_vqa")
        ),
        f"{_LARGE}_indomain_patch16_768_vgqaaug_vqa",
        *(
            f"{start}_patch16_480_{task}"
            for start in (_BASE, f"{_BASE}_indomain", _LARGE)
            for task in ("coco_captioning", "nocaps")
        ),
        *(f"{size}_patch16_384_{data}_retrieval" for size in (_BASE, _LARGE) for data in ("coco", "f30k")),
    }
)


def released(file: str | PurePath) -> str:
    """The name of the released checkpoint that a file is called after, without its suffix; empty for other files."""
    stem = PurePath(file).stem
    return stem if stem in RELEASED else ""
