"""The ``crossattn`` command: one file a subcommand, thin, light to start.

Exit codes: 0 done; 2 refused, with one line on stderr that begins ``error:``; 130 stopped by
Ctrl-C; 1 a defect of ours (the only case that shows a traceback).
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from crossattn import __version__
from crossattn.errors import CrossAttentionError

COMMANDS = (
    "demo",
    "simulate",
    "fetch",
    "train",
    "predict",
    "leadlag",
    "backtest",
    "report",
    "verify",
)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose refusal is one line that begins ``error:``."""

    def error(self, message: str) -> NoReturn:
        _complain("error", f"{message} (see '{self.prog} --help')")
        raise SystemExit(2)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command; importing torch is left to the subcommands."""
    parser = _Parser(
        prog="crossattn",
        description="Cross-attention for multi-asset trading: who leads whom and what it is worth",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"crossattn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name in COMMANDS:
        module = import_module(f"crossattn.cli.{name}")
        command = commands.add_parser(
            name, help=module.HELP, description=module.HELP, allow_abbrev=False
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``crossattn``; by default those of the process.

    Returns
    -------
    int
    """
    warnings.showwarning = _show_warning
    try:
        arguments = build_parser().parse_args(argv)
        return arguments.run(arguments) or 0
    except (CrossAttentionError, MemoryError) as error:
        _complain("error", str(error) or type(error).__name__)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        _complain("error", f"cannot use{where}: {error.strerror or error}")
        return 2
    except KeyboardInterrupt:
        _complain("stopped", "what was finished is kept")
        return 130


def _complain(kind: str, message: str) -> None:
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(message.split()))
    print(f"{kind}: {line}", file=sys.stderr)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    _complain("warning", str(message))
