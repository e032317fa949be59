"""The README's `harness` commands, made concrete: its placeholders become toy data and the small backbone."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent.parent / "README.md"
DATA = "toy"
SHORT = "--limit 12 --set epochs=1 --set workers=0 --out made"
TUNED = "made/{task}/multiway_nano-seed0/checkpoints/final.safetensors"

# What the README leaves open, and the files that only a reader with the released weights has.
CONCRETE = (
    (r"(run coco_detection .*)--backbone … --weights …", rf"\1--backbone multiway_nano {SHORT}"),
    (r"(predict coco_captioning .*)--backbone … --weights \S+", r"\1--backbone multiway_nano --weights TUNED"),
    (r"(predict coco_detection .*)", "predict coco_detection --data /data --backbone multiway_nano --weights TUNED"),
    (r"(score coco_detection) \S+", r"\1 made/coco_detection/multiway_nano-final/predictions/val.jsonl"),
    (r"(run vqav2 --data /data .*)--backbone \S+ --weights \S+", rf"\1--backbone multiway_nano {SHORT}"),
    (r"(run vqav2 --data runs/toy .*)", r"\1 --limit 12 --set epochs=1 --set workers=0"),
    (r"(predict vqav2 .*)--backbone \S+ --weights \S+", r"\1--backbone multiway_nano --weights TUNED --split test-dev"),
    (r"submit vqav2 runs/…/\S+", "submit vqav2 made/vqav2/multiway_nano-final/predictions/test-dev.jsonl"),
    (r"compare runs/imagenet/one runs/imagenet/other", "compare made/imagenet/one made/imagenet/other"),
    (r"(--results|results|export) runs\b", r"\1 made"),
    (r"(pretrain nano_.*)", r"\1 --set steps=3 --set warmup_steps=1 --set batch_size=8 --set micro_batch=8"),
    (r"ablate .*", "ablate ablation_e_text_reconstruction --dry-run"),  # a whole grid takes hours
    (r"/data", DATA),
)


# Commands on data and weights of the reader's own, and what they answer where there are none.
REFUSED = {("pretrain", "base_masked"): "There is no folder my_data"}


def commands(text: str | None = None) -> list[str]:
    """The lines of shell blocks that begin with `harness`, without comments, continued lines as one."""
    text = README.read_text() if text is None else text
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = (re.sub(r"\s+# .*", "", line).strip() for line in lines)
    return [re.sub(r"\s+", " ", line) for line in found if line.startswith("harness ")]


def concrete(command: str) -> list[str]:
    """The words of a command that runs on toy data, without the program."""
    for pattern, replacement in CONCRETE:
        command = re.sub(pattern, replacement, command)
    words = command.split()[1:]
    if words[0] == "predict":
        words += ["--set", "workers=0", "--out", "made"]
        if "test-dev" not in words:  # a server takes whole splits alone
            words += ["--limit", "12"]
        words = [TUNED.format(task=words[1]) if word == "TUNED" else word for word in words]
    if words[0] == "score" and words[1] == "coco_detection":
        words += ["--limit", "12"]
    if "…" in " ".join(words):
        raise ValueError(f"The README's command `{command}` has no concrete form here: add one to CONCRETE.")
    return words
