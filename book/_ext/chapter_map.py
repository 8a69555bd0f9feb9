"""The map at the top of each chapter: the parts of the model, with the chapter's own marked.

Drawn from ``book/map.yml``. ``{chapter-map}`` draws it anywhere else, with no part marked.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

ROW, WIDE, HIGH, GAP_X, GAP_Y = 4, 102, 52, 14, 16
CHIP, CHIP_GAP = 17, 3  # width of a chapter's number and between two; five fit into a part


class ChapterMap(nodes.General, nodes.Element):
    """A place for the map; drawn when all titles are known."""


class MapDirective(SphinxDirective):
    """The map, with no part marked."""

    def run(self) -> list[nodes.Node]:
        """Return the place of the map."""
        return [ChapterMap(chapter=None)]


def number_of(docname: str) -> str | None:
    """Return the number of a chapter by the name of its file, such as 3 or, of a second half, 3b."""
    found = re.match(r"0*(\d+[a-z]?)_", docname.rpartition("/")[2])
    return found and found[1]


def read_map(root: Path) -> list[dict]:
    """Return the parts: name and numbers of chapters."""
    parts = yaml.safe_load((root / "book" / "map.yml").read_text(encoding="utf-8"))
    return [{**part, "chapters": [str(n) for n in part["chapters"]]} for part in parts]


def add_map(app: Sphinx, doctree: nodes.document) -> None:
    """Put the map between the title and the card of a chapter."""
    chapter = number_of(app.env.docname)
    for card in doctree.findall(nodes.admonition):
        if chapter is not None and "chapter-card" in card["classes"]:
            app.env.note_dependency(str(Path(app.srcdir) / "book" / "map.yml"))
            if not any(chapter in part["chapters"] for part in read_map(Path(app.srcdir))):
                logging.getLogger(__name__).warning("chapter %s is not in book/map.yml", chapter)
            card.parent.insert(card.parent.index(card), ChapterMap(chapter=chapter))
            return


def draw(parts: list[dict], chapter: str | None, address: dict, title: dict) -> str:
    """Return the map as HTML: a navigation landmark around one SVG.

    ``address`` and ``title`` hold the link and the title of each written chapter.
    """
    rows = -(-len(parts) // ROW)
    width, height = ROW * (WIDE + GAP_X) - GAP_X + 4, rows * (HIGH + GAP_Y) - GAP_Y + 4
    drawn, own = [], ""
    for place, part in enumerate(parts):
        row, column = divmod(place, ROW)
        x, y = 2 + column * (WIDE + GAP_X), 2 + row * (HIGH + GAP_Y)
        here = chapter in part["chapters"]
        own = part["part"] if here else own
        drawn.append(
            f'<g class="ca-part{" ca-here" * here}"><rect x="{x}" y="{y}" width="{WIDE}" '
            f'height="{HIGH}" rx="5"/><text x="{x + WIDE / 2}" y="{y + 19}">'
            f"{escape(part['part'])}</text>"
        )
        written = [number for number in part["chapters"] if number in address]
        left = x + (WIDE - (CHIP + CHIP_GAP) * len(written) + CHIP_GAP) / 2
        for k, number in enumerate(written):
            current = ' aria-current="page"' * (number == chapter)
            at = left + k * (CHIP + CHIP_GAP)
            drawn.append(
                f'<a href="{escape(address[number])}"{current} '
                f'aria-label="Chapter {number}: {escape(title[number])}">'
                f"<title>{escape(title[number])}</title>"
                f'<rect class="ca-chip" x="{at}" y="{y + 27}" width="{CHIP}" height="20" rx="3"/>'
                f'<text class="ca-number" x="{at + CHIP / 2}" y="{y + 41}">{number}</text></a>'
            )
        drawn.append("</g>")
        if column < ROW - 1 and place < len(parts) - 1:
            middle = y + HIGH / 2
            drawn.append(f'<path d="M{x + WIDE + 1} {middle}h{GAP_X - 3}m-4 -4l4 4l-4 4"/>')
        elif place < len(parts) - 1:  # down and back to the start of the next row
            under = y + HIGH + GAP_Y / 2
            drawn.append(
                f'<path d="M{x + WIDE / 2} {y + HIGH}V{under}H{2 + WIDE / 2}V{y + HIGH + GAP_Y - 1}'
                'm-4 -4l4 4l4 -4"/>'
            )
    label = f"This chapter is about: {own}" if own else "The parts of the model and their chapters"
    return (
        f'<nav class="ca-map" aria-label="Map of the model. {escape(label)}">'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f"{''.join(drawn)}</svg></nav>"
    )


def visit_map(self, node: ChapterMap) -> None:
    """Write the map into a page."""
    env, builder = self.builder.env, self.builder
    chapters = {n: doc for doc in env.found_docs if (n := number_of(doc)) and doc in env.titles}
    here = builder.current_docname
    address = {n: builder.get_relative_uri(here, doc) or "#" for n, doc in chapters.items()}
    title = {n: env.titles[doc].astext() for n, doc in chapters.items()}
    self.body.append(draw(read_map(Path(env.srcdir)), node["chapter"], address, title))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
    """Register."""
    app.add_node(ChapterMap, html=(visit_map, None))
    app.add_directive("chapter-map", MapDirective)
    app.connect("doctree-read", add_map)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
