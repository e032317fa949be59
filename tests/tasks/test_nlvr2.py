from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import backbones
import harness
import tasks
from backbones import InputError, UsageError, weights
from backbones.multiway import Multiway
from backbones.tokenizer import Tokenizer
from harness.cli import main
from tasks.adapter import Setting
from tasks.models.reasoner import Reasoner
from tests import official
from tests.backbones.test_multiway import SMALL, TOLERANCE, official_config, small
from tests.conftest import FAST
from tests.harness.test_run import command, execute

ADAPTER = tasks.get("nlvr2")
DATA = "nlvr/nlvr2/data"
TOGETHER = ("micro_batch=2", "precision=fp32", "drop_path=0.0", "lr=1e-4")
SENTENCES = ("The left image is redder.", "Both images are dark.")


def statements(root: Path, split: str, *, sets: int) -> Path:
    """Per set of images two pairs and two sentences, each sentence true of one pair, in the official layout."""
    rng = np.random.default_rng(0)
    file, folder = {"train": ("train", "images/train"), "dev": ("dev", "dev"), "test-P": ("test1", "test1")}[split]
    rows = []
    for number in range(sets):
        place = folder + (f"/{number % 3}" if split == "train" else "")
        (root / place).mkdir(parents=True, exist_ok=True)
        for pair in range(2):
            for side in range(2):
                pixels = rng.integers(0, 255, (20, 26, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / place / f"{file}-{number}-{pair}-img{side}.png")
            for sentence, text in enumerate(SENTENCES):
                row = {
                    "identifier": f"{file}-{number}-{pair}-{sentence}",
                    "sentence": text,
                    "label": str(pair == sentence),
                }
                rows.append(row | ({"directory": number % 3} if split == "train" else {}))
    (root / DATA).mkdir(parents=True, exist_ok=True)
    (root / DATA / f"{file}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = statements(tmp_path / "nlvr2", "train", sets=4)
    return statements(statements(root, "dev", sets=3), "test-P", sets=3)


def labels(samples: list, wrong: set[str]) -> dict[str, dict]:
    return {s.id: {"label": s.annotation["label"] ^ (s.id in wrong)} for s in samples}


def write_index(root: Path, split: str) -> None:
    samples = ADAPTER.samples(root, split)
    with (root / f"nlvr2.{split}.index.jsonl").open("w") as file:
        for s in samples:
            row = {"image_path": s.inputs["images"][0], "image2_path": s.inputs["images"][1], "text_segment": [7, 8, 9]}
            file.write(json.dumps(row | {"label": s.annotation["label"], "identifier": s.id}) + "\n")


def test_logits_equal_the_official_ones(reference: Path, reference_meta: dict) -> None:
    model = Reasoner(Multiway(official_config(reference_meta))).eval()
    report = weights.load(model, reference / "visual_reasoning.weights.safetensors")
    assert report.ignored == report.fresh == ()
    io = load_file(reference / "visual_reasoning.io.safetensors")
    logits = io.pop("logits")
    names = {"text_ids": "text"}
    with torch.no_grad():
        assert (model(**{names.get(name, name): value for name, value in io.items()}) - logits).abs().max() <= TOLERANCE


@pytest.mark.parametrize(("size", "count"), [("base", 225_719_810), ("large", 681_109_506)])
def test_parameter_counts(size: str, count: int) -> None:
    with torch.device("meta"):
        model = Reasoner(backbones.build(f"beit3_{size}_patch16_224"))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_an_official_checkpoint_loads_whole(tmp_path: Path) -> None:
    dim = SMALL.dim
    head = official.norm("head.norm1", 4 * dim) | official.linear("head.dense1", 4 * dim, 2 * dim)
    head |= official.norm("head.norm2", 2 * dim) | official.linear("head.dense2", 2 * dim, 2)
    state = official.write(tmp_path / "tuned.pth", official.trunk(SMALL, final_norm=True) | head)
    model = Reasoner(small())
    report = weights.load(model, tmp_path / "tuned.pth")
    assert (report.loaded, report.fresh, report.ignored) == (len(state), (), ())
    assert torch.equal(model.state_dict()["head.dense1.weight"], state["head.dense1.weight"])


def test_layouts_agree(folder: Path) -> None:
    samples = ADAPTER.samples(folder, "train")
    assert len(samples) == 16
    assert samples[5].id == "train-1-0-1"
    assert samples[5].inputs["images"] == ["images/train/1/train-1-0-img0.png", "images/train/1/train-1-0-img1.png"]
    assert samples[5].annotation == {"label": 0}
    write_index(folder, "dev")
    read = ADAPTER.samples(folder, "dev")
    (folder / DATA / "dev.json").unlink()
    from_index = ADAPTER.samples(folder, "dev")
    assert [(s.id, s.inputs["images"], s.annotation) for s in from_index] == [
        (s.id, s.inputs["images"], s.annotation) for s in read
    ]
    assert from_index[0].inputs["text"] == [7, 8, 9]


def test_a_sentence_is_consistent_when_it_is_right_about_every_pair(folder: Path) -> None:
    samples = ADAPTER.samples(folder, "dev")
    scores = {
        m.metric: m.value for m in ADAPTER.score(labels(samples, {"dev-0-0-1", "dev-0-1-1", "dev-2-0-0"}), samples)
    }
    assert scores == {"accuracy": pytest.approx(100 * 9 / 12), "consistency": pytest.approx(100 * 4 / 6)}


def test_published_scores(truth: Path, tmp_path: Path) -> None:
    cases = [case for case in json.loads((truth / "manifest.json").read_text())["cases"] if case["task"] == "nlvr2"]
    assert cases
    for number, case in enumerate(cases):
        root = tmp_path / str(number)
        (root / DATA).mkdir(parents=True)
        split = "dev" if "dev" in Path(case["annotations"]).name else "test-P"
        (root / DATA / {"dev": "dev.json", "test-P": "test1.json"}[split]).symlink_to(truth / case["annotations"])
        predictions = root / "all_true.csv"
        if case["predictions"] is None:
            predictions.write_text("".join(f"{sample.id},True\n" for sample in ADAPTER.samples(root, split)))
        else:
            predictions = truth / case["predictions"]
        rows = {row.metric: row for row in harness.score("nlvr2", predictions, data=root, split=split)}
        for metric, printed in case["expected"].items():
            assert f"{rows[metric].value:.{len(printed.partition('.')[2])}f}" == printed, (case["id"], metric)


def test_submission_is_the_file_that_the_official_script_reads(folder: Path, tmp_path: Path) -> None:
    samples = ADAPTER.samples(folder, "test-P")
    predictions = labels(samples, {"test1-1-0-0"})
    (submission,) = ADAPTER.submission(predictions, samples, split="test-P", name="ours")
    assert submission.filename == "nlvr2_test-P_ours.csv"
    lines = submission.content.decode().splitlines()
    assert lines[0] == "test1-0-0-0,True"
    assert len(lines) == 12
    (tmp_path / "back.csv").write_bytes(submission.content)
    assert {
        record["id"]: {"label": record["label"]} for record in ADAPTER.read_official(tmp_path / "back.csv")
    } == predictions


def test_evaluation_decodes_an_image_once_for_the_sentences_about_it(
    folder: Path, spm: Path, decoded: list[Path]
) -> None:
    samples = ADAPTER.samples(folder, "dev")  # per set of images: two pairs, each with both sentences
    setting = Setting(root=folder, recipe=ADAPTER.recipes["nano"], tokenizer=Tokenizer(spm))
    items = ADAPTER.eval_set(samples, setting)
    for index in range(len(items)):
        items[index]
    assert len(decoded) == len(set(decoded)) == 3 * 2 * 2


def test_fine_tunes_predicts_and_scores(folder: Path, spm: Path, tmp_path: Path) -> None:
    options = {"backbone": "multiway_nano", "data": folder, "out": tmp_path / "runs", "tokenizer": spm}
    rows = harness.run("nlvr2", **options, changes=FAST)
    assert [(row.metric, row.n, row.split) for row in rows] == [("accuracy", 12, "dev"), ("consistency", 6, "dev")]
    assert rows[0].tokenizer_sha256 == weights.sha256(spm)
    final = tmp_path / "runs" / "nlvr2" / "multiway_nano-seed0" / "checkpoints" / "final.safetensors"
    path = harness.predict("nlvr2", **options, weights=final, split="test-P", changes=FAST)
    assert len(harness.score("nlvr2", path, data=folder, split="test-P")) == 2


@pytest.mark.slow
def test_two_processes_train_and_predict_as_one(folder: Path, spm: Path, tmp_path: Path) -> None:
    """Pairs leave parameters of the backbone without a gradient, which averaging must not wait for."""
    tensors, predictions = [], []
    for processes in (0, 2):
        out = tmp_path / str(processes)
        tokenizer = ("--tokenizer", str(spm))
        execute(command(folder, out, *TOGETHER, task="nlvr2", processes=processes, extra=tokenizer))
        run = out / "nlvr2" / "multiway_nano-seed0"
        tensors.append(load_file(run / "checkpoints" / "final.safetensors"))
        predictions.append([json.loads(line) for line in (run / "predictions" / "dev.jsonl").read_text().splitlines()])
    for name, tensor in tensors[0].items():
        if not name.endswith(".k_proj.B.bias") and not name.endswith(".k_proj.A.bias"):  # no gradient but rounding
            torch.testing.assert_close(tensors[1][name], tensor, atol=1e-4, rtol=0, msg=name)
    assert [record["id"] for record in predictions[0]] == [record["id"] for record in predictions[1]]
    for one, two in zip(*predictions, strict=True):
        assert one["margin"] == pytest.approx(two["margin"], abs=1e-3)


def test_the_loss_pulls_towards_the_labels(folder: Path) -> None:
    torch.manual_seed(0)
    model = Reasoner(small())
    batch = {
        "image_a": torch.randn(4, 3, 32, 32),
        "image_b": torch.randn(4, 3, 32, 32),
        "text": torch.randint(3, 50, (4, 5)),
    }
    label = torch.tensor([0, 1, 1, 0])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        model(**batch, label=label, mode="loss")["loss"].backward()
        optimizer.step()
    records = model(**batch, mode="predict")
    assert [record["label"] for record in records] == label.tolist()
    assert all((record["margin"] > 0) == bool(record["label"]) for record in records)
    # Left and right are told apart.
    swapped = dict(batch, image_a=batch["image_b"], image_b=batch["image_a"])
    assert model(**swapped, mode="predict") != records


def test_check_counts_and_names_what_is_absent(folder: Path) -> None:
    def findings() -> list:
        return ADAPTER.check(folder, decode=False, progress=lambda items, title: items)

    assert all(finding.ok for finding in findings())
    assert "16 statements (official: 86,373), 8 sentences" in findings()[0].text
    (folder / "dev" / "dev-1-0-img1.png").unlink()
    (wrong,) = [finding.text for finding in findings() if not finding.ok]
    assert "dev: 1 of 12 images absent, such as" in wrong
    assert "dev-1-0-img1.png" in wrong


def test_an_odd_image_stops_the_run_and_is_named(
    folder: Path, spm: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (folder / "dev" / "dev-1-0-img1.png").unlink()
    out = tmp_path / "runs"
    arguments = ["run", "nlvr2", "--backbone", "multiway_nano", "--data", str(folder), "--out", str(out)]
    arguments += ["--tokenizer", str(spm), *[part for change in FAST for part in ("--set", change)]]
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("harness: ")
    assert "dev-1-0-img1.png is named in the annotations but absent" in error
    assert (out / "nlvr2" / "multiway_nano-seed0" / "checkpoints" / "final.safetensors").is_file()


def test_an_index_row_with_one_image_is_told(folder: Path) -> None:
    write_index(folder, "dev")
    (folder / DATA / "dev.json").unlink()
    index = folder / "nlvr2.dev.index.jsonl"
    lines = index.read_text().splitlines()
    row = json.loads(lines[3])
    del row["image2_path"]
    index.write_text("\n".join([*lines[:3], json.dumps(row), *lines[4:]]))
    with pytest.raises(InputError, match="line 4 has no field 'image2_path'"):
        ADAPTER.samples(folder, "dev")


def test_wrong_annotations_are_told(folder: Path) -> None:
    file = folder / DATA / "dev.json"
    good = file.read_text()
    file.write_text(good.replace('"True"', '"Maybe"', 1))
    with pytest.raises(InputError, match="dev-0-0-0 is 'Maybe'"):
        ADAPTER.samples(folder, "dev")
    file.write_text(good + good.splitlines()[0])
    with pytest.raises(InputError, match="identifier dev-0-0-0 twice"):
        ADAPTER.samples(folder, "dev")
    file.unlink()
    with pytest.raises(InputError, match="clone lil-lab/nlvr"):
        ADAPTER.samples(folder, "dev")
    with pytest.raises(UsageError, match="test-P"):
        ADAPTER.samples(folder, "test-Q")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[1:], "1 missing: dev-0-0-0"),
        (lambda lines: [*lines, lines[2]], "1 duplicate: dev-0-1-0"),
        (lambda lines: [*lines, "dev-9-0-0,True"], "1 unknown: dev-9-0-0"),
        (lambda lines: ["dev-0-0-0,perhaps", *lines[1:]], "line 1 is not of the form identifier,True"),
    ],
)
def test_predictions_that_do_not_fit_are_told(folder: Path, tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(change([f"{sample.id},False" for sample in ADAPTER.samples(folder, "dev")])))
    with pytest.raises(InputError, match=message):
        harness.score("nlvr2", path, data=folder)
