"""``{command-help} NAME``: the ``--help`` of one ``crossattn`` subcommand, read when the book is built."""

from __future__ import annotations

import argparse
import functools

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from crossattn.cli import build_parser


@functools.cache
def subcommands() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of all subcommands by name."""
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


class CommandHelp(SphinxDirective):
    """Show the help of one subcommand, 80 columns wide."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the help as literal text."""
        parser = subcommands()[self.arguments[0]]
        parser.formatter_class = functools.partial(argparse.HelpFormatter, width=80)
        text = parser.format_help()
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict:
    """Connect."""
    app.add_directive("command-help", CommandHelp)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
