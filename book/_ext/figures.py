"""Figures in the dark: a second copy of each SVG of a cell with light ink, shown in the dark scheme.

Another image is followed by its dark copy where one lies beside it: ``name.dark.svg``.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

LIGHT_INK = {"#000000": "#e8e8e8", "#fefefe": "#121212", "#555555": "#b5b5b5", "#808080": "#a0a0a0"}
BACKGROUND = re.compile(r'(<g id="patch_\d+">\s*<path [^>]*style="fill: )#ffffff')
INK = re.compile("|".join(LIGHT_INK), re.I)


def darkened(svg: str) -> str:
    """Return a drawing without its white background, its black lines and letters light."""
    svg = BACKGROUND.sub(r"\1none", svg)
    svg = INK.sub(lambda found: LIGHT_INK[found[0].lower()], svg)
    return re.sub(r"<svg\b", f'<svg fill="{LIGHT_INK["#000000"]}"', svg, count=1)


def add_dark_copies(app: Sphinx, doctree: nodes.document) -> None:
    """Follow each SVG with its dark copy; only one of the two is shown."""
    for image in list(doctree.findall(nodes.image)):
        path = Path(app.env.relfn2path(image["uri"], app.env.docname)[1])
        dark = path.with_suffix(".dark.svg")
        if path.suffix == ".svg" and "jupyter_execute" in path.parts:
            dark.write_text(darkened(path.read_text(encoding="utf-8")), encoding="utf-8")
        elif path.suffix != ".svg" or not dark.exists():
            continue
        copy = image.deepcopy()
        copy["uri"] = image["uri"].removesuffix(".svg") + ".dark.svg"
        copy["ids"] = copy["names"] = []
        copy["classes"] = [*copy["classes"], "only-dark"]
        image["classes"] = [*image["classes"], "only-light"]
        image.parent.insert(image.parent.index(image) + 1, copy)


def setup(app: Sphinx) -> dict:
    """Connect before images are collected."""
    app.connect("doctree-read", add_dark_copies, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
