"""Figures of cells in the dark: a second copy of each SVG with light ink, shown in the dark scheme."""

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
    """Follow each SVG made by a cell with its dark copy; only one of the two is shown."""
    for image in list(doctree.findall(nodes.image)):
        path = Path(app.srcdir) / image["uri"].lstrip("/")
        if path.suffix != ".svg" or "jupyter_execute" not in path.parts:
            continue
        dark = path.with_suffix(".dark.svg")
        dark.write_text(darkened(path.read_text(encoding="utf-8")), encoding="utf-8")
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
