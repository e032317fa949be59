"""One file per subcommand: HELP, add_arguments(parser) and run(args) -> CommandOutput."""

from harness.commands import check, doctor, list_, predict, results, run, score, submit, toy

COMMANDS = (list_, doctor, check, toy, run, predict, score, submit, results)
