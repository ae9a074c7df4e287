"""The command line: `t2v-mini generate | evaluate | train | world | judge | info`.

Heavy imports happen inside the commands: `--help` answers at once.
"""

import sys
from typing import Annotated

import tyro
from tyro.conf import subcommand

from t2v_mini import __version__
from t2v_mini.cli.info import Info
from t2v_mini.cli.model import Evaluate, Generate, Train
from t2v_mini.cli.world import Judge, World

Command = (
    Annotated[Generate, subcommand("generate")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Train, subcommand("train")]
    | Annotated[World, subcommand("world")]
    | Annotated[Judge, subcommand("judge")]
    | Annotated[Info, subcommand("info")]
)


def main(args: list[str] | None = None) -> None:
    """Run a command; bad input is one line on stderr and exit code 2."""
    arguments = sys.argv[1:] if args is None else args
    if arguments[:1] == ["--version"]:
        print(f"t2v-mini {__version__}")
        return
    command = tyro.cli(
        Command, prog="t2v-mini", description="Text to video, checked fact by fact.", args=arguments
    )
    try:
        command.run()
    except ValueError as error:
        print(f"t2v-mini: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
