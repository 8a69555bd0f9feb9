"""Command line interface ``crossattn``: one module per subcommand, imported when it runs.

Exit codes: 0 done; 2 refused, with one line on stderr that begins ``error:``; 130 stopped by
Ctrl-C; 1 an unexpected error, a bug (the only case that shows a traceback).
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from crossattn import __version__
from crossattn.cli._console import flush, print_error
from crossattn.errors import CrossAttentionError

COMMANDS = {
    "demo": "bars, features, training, lead-lag evidence, backtest and report.html in a minute",
    "simulate": "simulate a market with planted lead-lag and write its bars and its truth",
    "fetch": "fetch closed bars from Bybit or Yahoo, or write a real sample without a network",
    "check": "check bars: clocks, gaps, splits, misprints; of a run also drift and live IC",
    "train": "train a model on a folder of bars; resumes after any interruption",
    "predict": "write the forecasts of a run for every bar of a folder, the newest included",
    "leadlag": "test who leads whom on bars that the run never saw; q-values, or 'nobody leads'",
    "backtest": "trade the forecasts of a run, net of costs, on bars that it never saw",
    "report": "write one HTML page of a run: curve, attention, leaders, configuration",
    "verify": "audit a run for leaks: change the future, and no earlier forecast may move",
    "bench": "benchmark lead-lag models on simulated markets with known truth and on real bars",
}


class _Parser(argparse.ArgumentParser):
    """Argument parser that reports a mistake in one line that begins ``error:``."""

    def error(self, message: str) -> NoReturn:
        print_error("error", f"{message} (see '{self.prog} --help')")
        raise SystemExit(2)


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all subcommands, with the options of one of them; None: of all."""
    parser = _Parser(
        prog="crossattn",
        description="Cross-attention for multi-asset trading: who leads whom and what it is worth",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"crossattn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, summary in COMMANDS.items():
        options = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if command in (None, name):
            module = import_module(f"crossattn.cli.{name}")
            module.add_arguments(options)
            options.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a ``crossattn`` command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Command-line arguments; ``sys.argv[1:]`` by default.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return _run(argv)
        except (CrossAttentionError, Warning) as error:  # a warning is raised only where asked for
            print_error("error", str(error) or type(error).__name__)
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            print_error("error", f"cannot use{where}: {error.strerror or error}")
        except (MemoryError, RuntimeError) as error:
            if not _is_lack_of_memory(error):
                raise
            print_error("error", f"not enough memory ({error}); use fewer symbols or smaller sizes")
        except KeyboardInterrupt:
            print_error("stopped", "what was finished is kept")
            return 130
        return 2


def _run(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    command = next((word for word in words if not word.startswith("-")), "")
    try:
        arguments = build_parser(command).parse_args(words)
        return arguments.run(arguments) or 0
    finally:
        flush()


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether NumPy or torch could not allocate; torch raises several kinds of RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print_error("warning", str(message))
