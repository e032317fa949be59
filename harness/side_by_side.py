"""Several runs at a time, each in a process of its own on its part of the machine, with a log file of its own."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from harness import job_process
from harness.progress import bar, note
from harness.slots import Slot

if TYPE_CHECKING:
    from leaderboards.rows import ResultRow


@dataclass(frozen=True)
class Call:
    """A run to be made. make: the function that makes it, in another process; refusal: the text of its exception."""

    name: str
    log: Path
    make: Callable[[], list[ResultRow]]
    refusal: Callable[[Exception], str]


def run(calls: Sequence[Call], places: Sequence[Slot]) -> Iterator[tuple[Call, list[ResultRow] | str]]:
    """Make the runs, each as soon as a place is free; yields each when it has ended, with its rows or why it has none.

    Where the caller stops, or is interrupted, the processes that still run are ended.
    """
    context = job_process.context(places)
    waiting, free = list(calls), list(places)
    running: dict[Connection, tuple[Call, BaseProcess, Slot]] = {}
    try:
        while waiting or running:
            while waiting and free:
                call, place = waiting.pop(0), free.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(call, place, theirs))
                process.start()
                theirs.close()  # so that the end of the process ends the pipe
                running[ours] = (call, process, place)
            for pipe in wait(list(running)):
                call, process, place = running.pop(pipe)
                yield call, _answer(call, pipe, process)
                free.append(place)
    finally:
        for _, process, _ in running.values():
            job_process.end(process, signal.SIGKILL)


def shown(calls: Sequence[Call], places: Sequence[Slot]) -> Iterator[tuple[Call, list[ResultRow] | str]]:
    """`run` with a progress bar, and a line for each run that ended."""
    with bar("runs", len(calls)) as progress, closing(run(calls, places)) as ended:
        for call, answer in ended:
            note(f"{call.name}: {'not done' if isinstance(answer, str) else 'done'}; {call.log}")
            progress.advance(1, call.name)
            yield call, answer


def _work(call: Call, place: Slot, pipe: Connection) -> None:
    job_process.enter(call.log, place.gpu, place.cores)
    import torch

    torch.set_num_threads(len(place.cores))
    try:
        answer: list[ResultRow] | str = call.make()
    except Exception as error:
        traceback.print_exc()
        answer = call.refusal(error)
    with closing(pipe):
        pipe.send(answer)


def _answer(call: Call, pipe: Connection, process: BaseProcess) -> list[ResultRow] | str:
    with closing(pipe):
        try:
            return pipe.recv()
        except EOFError:
            process.join()
            return job_process.ending(call.log, process.exitcode)
        finally:
            process.join()
