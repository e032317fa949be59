"""The command line. Heavy imports happen inside the command that needs them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from harness import cpu_runtime, distributed, signals
from harness.commands import COMMANDS
from harness.messages import error_text
from harness.output import CommandOutput

PIPE_WIDTH = 132  # columns


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 not done, 2 wrong call."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    args = _parser().parse_args(words)
    args.words = words
    try:
        # Libraries print; standard output is for the answer.
        with contextlib.redirect_stdout(sys.stderr):
            answer = args.run(args)
    except KeyboardInterrupt:
        return _stopped(args)
    except SystemExit as error:
        return _fail(args, f"Something that is no part of this program ended it ({error}): a task of your own?", 1)
    except Exception as error:
        if signals.received():  # a library made something else of the interruption
            return _stopped(args)
        return _fail(args, error_text(error, args), getattr(error, "exit_code", 1))
    finally:
        distributed.stop()  # of commands that joined a group
    return _answered(answer, args)


def _stopped(args: argparse.Namespace) -> int:
    number = signals.received() or signal.SIGINT
    return _fail(args, signals.text(number), 128 + number)


def _answered(answer: CommandOutput, args: argparse.Namespace) -> int:
    """Print the answer; returns the exit status, 1 where the answer cannot be printed."""
    try:
        _print(answer, as_json=args.json)
        sys.stdout.flush()
    except OSError as error:
        # Python flushes once more at its end, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # whoever reads has seen enough
            print(
                f"harness: The answer cannot be printed ({error.strerror}). All work is done; run the same command "
                "again to see it.",
                file=sys.stderr,
            )
        return 1
    return 0 if answer.ok else 1


def entry() -> None:
    """The process behind the `harness` command."""
    _require_streams()
    signals.install()
    cpu_runtime.prepare()
    status = main()
    if number := signals.received():  # nothing that is still running is waited for
        signals.end(number, told=False)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        distributed.end(status)
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Fine-tune a Multiway (BEiT-3) backbone on a benchmark, score it, keep the row.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2].rstrip("_").replace("_", "-")
        sub = commands.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_arguments(sub)
        sub.add_argument("--json", action="store_true", help="answer in JSON on standard output")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(run=command.run)
    return parser


class _Version(argparse.Action):
    """Print the version of the package, and its commit in a checkout, read only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from harness.provenance import package_commit, package_version

        commit = package_commit()
        print(f"harness {package_version()}{f' ({commit})' if commit else ''}")
        parser.exit()


def _require_streams() -> None:
    """Print nowhere where an output is closed, and in escapes where it has no letter for a character."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  open until the end
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
            if stream.fileno() != number:  # or the next file that is opened would be printed to
                os.dup2(stream.fileno(), number)
        stream.reconfigure(errors="backslashreplace")


def _fail(args: argparse.Namespace, text: str, status: int) -> int:
    if args.debug:
        traceback.print_exc()
    with contextlib.suppress(OSError):  # there may be nobody to tell
        print(f"harness: {text}", file=sys.stderr, flush=True)
    if args.json:
        with contextlib.suppress(OSError):
            print(_json({"error": text}), flush=True)
    distributed.tell_launcher(text)
    return status


def _json(data: Any, **options: Any) -> str:
    """JSON in the characters that standard output has."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(data, ensure_ascii=not unicode, default=vars, **options)


def _print(answer: CommandOutput, *, as_json: bool) -> None:
    if os.environ.get("RANK", "0") != "0":  # torchrun's other processes have the same answer
        return
    if as_json:
        print(_json(answer.data, indent=1))
        return
    from rich.console import Console

    # A log or a pipe has no width of its own unless COLUMNS says so; eighty columns would break every number.
    own = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    answer.show(Console(highlight=False, width=None if own else PIPE_WIDTH))
