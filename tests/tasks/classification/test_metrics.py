from __future__ import annotations

import json
from pathlib import Path

import pytest

import tasks
from backbones import InputError

ADAPTER = tasks.get("imagenet")


def test_real_labels_are_scored_over_the_images_that_have_one(tmp_path: Path) -> None:
    names = [f"val/a/ILSVRC2012_val_0000000{n}.JPEG" for n in (2, 1, 3)]  # not in the order of their numbers
    rows = [{"image_path": name, "label": 0} for name in names] + [{"image_path": "val/b/x.JPEG", "label": 1}]
    index = tmp_path / "imagenet.val.index.jsonl"
    index.write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "real.json").write_text("[[1], [0, 1], []]")
    with pytest.raises(InputError, match=r"val/b/x.JPEG is not"):
        ADAPTER.samples(tmp_path, "val")
    index.write_text(
        "\n".join(json.dumps(row) for row in rows[:3])
        + '\n{"image_path": "val/b/ILSVRC2012_val_00000003.PNG", "label": 1}'
    )
    samples = ADAPTER.samples(tmp_path, "val")
    predictions = {sample.id: {"top": [1, 0]} for sample in samples}
    scores = {measured.metric: measured for measured in ADAPTER.score(predictions, samples)}
    assert (scores["top1"].value, scores["top5"].value) == (25.0, 100.0)
    assert (scores["real_top1"].value, scores["real_top1"].samples) == (100.0, 2)


def test_a_prediction_of_another_task_is_told(colours: Path) -> None:
    samples = ADAPTER.samples(colours, "val")
    predictions = {sample.id: {"caption": "a bird"} for sample in samples}
    with pytest.raises(InputError, match="no list of class ids under 'top'"):
        ADAPTER.score(predictions, samples)
