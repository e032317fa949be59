"""A newcomer's session: `python -m tests.newcomer.session --harness env/bin/harness --folder DIR`.

Draws toy data in an empty folder, runs every `harness` command of the README there and the list of slips, and prints a
table. Needs nothing but Python; what it examines is the installed program.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.newcomer.readme import REFUSED, SHORT, commands, concrete
from tests.newcomer.slips import SLIPS

QUICK = 1.0  # seconds of processor time for a wrong call
TASKS = ("imagenet", "vqav2", "coco_captioning", "nlvr2", "flickr30k_zero_shot")


class Session:
    """Commands run one after another in a folder, and what became of them."""

    def __init__(self, harness: Path, folder: Path) -> None:
        self._harness, self._folder, self._failed = str(harness.absolute()), folder, 0

    def run(self, words: Sequence[str], *, status: int = 0, says: str = "", quick: bool = False) -> str:
        """Run the program and print a line: what was wrong with its answer, if anything was; returns the answer."""
        began, before = time.monotonic(), _processor_seconds()
        done = subprocess.run([self._harness, *words], cwd=self._folder, capture_output=True, text=True, timeout=3600)
        seconds, used = time.monotonic() - began, _processor_seconds() - before
        answer = done.stdout + done.stderr
        faults = [f"exit status {done.returncode}, not {status}"] if done.returncode != status else []
        faults += [f"does not say '{says}'"] if says not in " ".join(answer.split()) else []
        faults += ["a traceback"] if "Traceback" in answer else []
        faults += ["'Unexpected'"] if "Unexpected" in answer else []
        faults += [f"{used:.1f} s of processor time for a wrong call"] if quick and used > QUICK else []
        print(
            f"{'FAIL' if faults else 'ok':5}{seconds:7.1f} s {used:7.1f} s CPU  {shlex.join(words)[:100]}", flush=True
        )
        if faults:
            self._failed += 1
            print(f"      {'; '.join(faults)}\n      {answer.strip()[-600:]}", flush=True)
        return answer

    @property
    def failed(self) -> int:
        return self._failed


def _processor_seconds() -> float:
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the session; returns 0 when every answer was right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--harness", type=Path, required=True, help="the installed program")
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder")
    parser.add_argument("--slips-only", action="store_true", help="leave out the README's commands")
    args = parser.parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    if any(args.folder.iterdir()):
        parser.error(f"{args.folder} is not empty")
    session = Session(args.harness, args.folder)
    session.run(["--version"], says="harness ")
    session.run(["toy", "toy", *TASKS])
    _files(args.folder)
    if not args.slips_only:
        _readme(session)
    for slip in SLIPS:
        session.run(shlex.split(slip.command), status=slip.status, says=slip.says, quick=slip.quick)
    print(f"{session.failed} answers were wrong" if session.failed else "every answer was right")
    return 1 if session.failed else 0


def _files(folder: Path) -> None:
    """Files that the commands name: predictions of NLVR2's dev split, all of them True."""
    lines = (folder / "toy" / "nlvr2" / "nlvr" / "nlvr2" / "data" / "dev.json").read_text().splitlines()
    rows = [f"{json.loads(line)['identifier']},True" for line in lines]
    for name in ("predictions.csv", "all_true.csv"):
        (folder / name).write_text("\n".join(rows) + "\n")
    (folder / "README.md").write_text("no weights\n")


def _readme(session: Session) -> None:
    """The README's commands, each after what it needs and the README does not show."""
    run = f"--data toy --backbone multiway_nano {SHORT}"
    before = {
        ("predict", "coco_captioning"): (f"run coco_captioning {run}",),
        ("table", "overview"): (f"run imagenet {run} --name one", f"run imagenet {run} --name other --seed 1"),
    }
    for command in commands():
        words = concrete(command)
        for needed in before.pop(tuple(words[:2]), ()):
            session.run(shlex.split(needed))
        answer = REFUSED.get(tuple(words[:2]), "")
        session.run(words, status=1 if answer else 0, says=answer)


if __name__ == "__main__":
    sys.exit(main())
