"""Caption scores: ours against pycocoevalcap, from raw captions to the seven metrics that run everywhere.

5,000 images with five references each, made from the real ones of the truth folder: every image comes several times,
each time with other words in a sixth of the places. Both sides score the same texts; pycocoevalcap goes through them
as its COCOEvalCap does (two tokenizer starts, then one scorer after the other), without SPICE. Its figures and ours
are compared before anything is said about time. Bootstrap intervals of all seven are timed besides.

Targets: at least 1.5 times as fast; intervals of 1,000 draws in a second. The exit status is 1 when one is missed.

    python -m tests.benchmarks.captions

Last figures:
    Two cores of an AMD EPYC, Java 17, idle, 3 rounds: ours 8.49 s, pycocoevalcap 13.0 s (1.53 times). Figures equal to
    7e-15 points; intervals 0.40 s. METEOR alone takes 8 s, 5 of them to read its paraphrases, on either side. Where
    others use the machine there is less to gain (1.41 times at load 2 to 3): METEOR and Python overlap only where a
    core is free.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tasks.bootstrap import replicates, values
from tasks.captioning import java
from tasks.captioning.metric_names import ALL
from tasks.captioning.metrics import measure, tokenized
from tests.benchmarks import timing
from tests.benchmarks.report import Report, arguments
from tests.conftest import REPOSITORY
from tests.support.captions import cases

TARGET = 1.5  # times as fast as pycocoevalcap
INTERVALS = 1.0  # seconds for the intervals of all metrics
METRICS = [name for name in ALL if name != "SPICE"]
TOLERANCE = 1e-10  # points

Texts = tuple[list[str], list[list[str]]]


def texts(images: int) -> Texts:
    """Candidates and references of so many images."""
    truth = Path(os.environ.get("MULTIWAY_TRUTH", REPOSITORY.parent / "shared" / "truth"))
    case = max(cases(truth).values(), key=lambda case: len(case.images))
    words = [word for candidate in case.candidates for word in candidate.split()]
    rng = random.Random(0)

    def varied(text: str) -> str:
        return " ".join(rng.choice(words) if rng.random() < 1 / 6 else word for word in text.split(" "))

    places = [place % len(case.images) for place in range(images)]
    candidates = [varied(case.candidates[place]) for place in places]
    return candidates, [[varied(text) for text in case.references[place][:5]] for place in places]


def ours(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    captions = tokenized(candidates, references)
    measured = measure(captions, metrics=METRICS)
    return {one.metric: value for one, value in zip(measured, values(measured), strict=True)}


def theirs(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Scores as pycocoevalcap.eval.COCOEvalCap.evaluate computes them, in its order."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    truth = tokenizer.tokenize({n: [{"caption": text} for text in group] for n, group in enumerate(references)})
    found = tokenizer.tokenize({n: [{"caption": text}] for n, text in enumerate(candidates)})
    scorers = [(Bleu(4), ALL[:4]), (Meteor(), "METEOR"), (Rouge(), "ROUGE_L"), (Cider(), "CIDEr")]
    scores: dict[str, float] = {}
    for scorer, name in scorers:
        score, _ = scorer.compute_score(truth, found)
        scores |= (
            {name: 100 * score} if isinstance(name, str) else dict(zip(name, (100 * s for s in score), strict=True))
        )
    return scores


def compare(*, images: int, rounds: int) -> Report:
    """Figures of both sides, then their times."""
    pair = texts(images)
    expected, found = theirs(*pair), ours(*pair)
    difference = max(abs(expected[name] - found[name]) for name in METRICS)
    if difference > TOLERANCE:
        raise SystemExit(f"The figures differ by {difference:.1e} points: {expected}, {found}.")
    sides = {"ours": partial(ours, *pair), "pycocoevalcap": partial(theirs, *pair)}
    seconds = timing.interleaved(sides, rounds=rounds, warmup=0)  # both have just run
    ratio = timing.speedup(seconds, "ours", "pycocoevalcap")
    measurements = measure(tokenized(*pair), metrics=METRICS)
    intervals = timing.once(lambda: replicates(measurements, seed=0))
    missed = [] if ratio >= TARGET else [f"{ratio:.2f} times as fast as pycocoevalcap, target {TARGET}"]
    missed += [] if intervals <= INTERVALS else [f"intervals took {intervals:.2f} s, target {INTERVALS}"]
    return Report(
        title=f"Caption scores, {images:,} images: Java {java.find().major}, {os.cpu_count()} CPUs",
        rows=[
            {
                "implementation": name,
                "seconds": median,
                "fastest": min(seconds[name]),
                "ours is × faster": None if name == "ours" else ratio,
            }
            for name, median in timing.medians(seconds).items()
        ],
        notes=[
            f"Largest difference of a figure: {difference:.1e} points",
            f"95% intervals of {len(METRICS)} metrics, 1,000 draws: {intervals:.2f} s",
        ],
        missed=missed,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):
        report = compare(images=args.images, rounds=args.rounds)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
