"""Write pages on every core, for which jupyter-book has no option.

They are read one after the other: not all of its extensions say that this may be done side by side.
"""

from __future__ import annotations

import os

from sphinx.application import Sphinx


def use_every_core(app: Sphinx, env) -> None:
    """Let as many processes write as there are cores, beside the one that hands them pages."""
    app.parallel = (os.cpu_count() or 1) + 1


def setup(app: Sphinx) -> dict:
    """Connect after pages are read."""
    app.connect("env-updated", use_every_core)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
