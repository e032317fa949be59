"""One file per subcommand: HELP, add_arguments(parser) and run(args) -> CommandOutput."""

from harness.commands import (
    check,
    compare,
    doctor,
    export,
    list_,
    predict,
    pretrain,
    report,
    reproduce,
    results,
    run,
    score,
    server_score,
    submit,
    table,
    toy,
)

COMMANDS = (
    list_,
    doctor,
    check,
    toy,
    pretrain,
    run,
    predict,
    score,
    submit,
    server_score,
    results,
    table,
    compare,
    reproduce,
    export,
    report,
)
