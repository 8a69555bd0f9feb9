"""HTML report: one self-contained page from figures, tables and configuration.

Every text is escaped and the page forbids itself outside requests and every script but that of the
attention explorer, so that a symbol name is data whatever it contains.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2

from crossattn._io import write_file
from crossattn.figures import Axes, png_of

if TYPE_CHECKING:
    import pandas as pd

    from crossattn.evidence.explorer import AttentionExplorer


@dataclass(frozen=True)
class Section:
    """One part of a report."""

    title: str
    text: str = ""  #: plain paragraphs, separated by blank lines; no markup
    table: pd.DataFrame | None = None  #: shown with its index, numbers with four digits
    figure: Axes | bytes | None = None  #: the figure of the axes, or a PNG
    caption: str = ""  #: under the figure; also its alternative text
    explorer: AttentionExplorer | None = None  #: attention maps with sliders, below the figure

    @property
    def paragraphs(self) -> list[str]:
        """The text's paragraphs."""
        return [text for text in self.text.split("\n\n") if text.strip()]

    @property
    def image(self) -> str:
        """The figure as a ``data:`` address, so that it travels inside the page."""
        png = self.figure if isinstance(self.figure, bytes) else png_of(self.figure)
        return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def render_report(
    title: str, sections: Sequence[Section], *, lead: str = "", facts: Mapping[str, object] = {}
) -> str:
    """Return one self-contained HTML page: heading, the sentence under it, sections, facts.

    ``facts`` are what a reader needs to repeat the run: configuration, seed, digest of the data.
    """
    script = ""
    if any(section.explorer is not None for section in sections):
        from crossattn.evidence.explorer import script_digest

        script = script_digest()
    page = _TEMPLATES.get_template("report.html.jinja")
    return page.render(title=title, lead=lead, sections=sections, facts=facts, script=script)


def write_report(path: str | os.PathLike, title: str, sections: Sequence[Section], **parts) -> None:
    """Write the page of :func:`render_report` to ``path``, atomically."""
    page = render_report(title, sections, **parts)
    write_file(path, page.encode("utf-8", "backslashreplace"))


def leaders_section(edges: pd.DataFrame, *, truth: pd.DataFrame | None = None) -> Section:
    """Return the section on the ``edges`` of a lead-lag report.

    ``truth`` are those of a simulated market: each claim is then marked planted or not.
    """
    # a table without rows, of a single asset, has lost its types in a file
    found = edges[edges["significant"].astype(bool)].drop(columns="significant")
    tested = edges.get("tested", edges["p_value"].notna()).astype(bool)
    n_tested, left = int(tested.sum()), int((~tested).sum())
    how = (
        "after correcting for all of them (Benjamini-Hochberg); a p-value is valid after the "
        "choice of the lag."
    )
    if len(found):
        unit = "in standard deviations of the follower's return"
        if "gross_gain" not in edges:
            unit = "the change of the follower's log volatility"
        text = (
            f"{len(found)} of {n_tested} ordered pairs tested are significant {how} An effect is "
            f"{unit} for one standard deviation of the leader's channel."
        )
    elif n_tested:
        text = f"Nobody leads: none of {n_tested} ordered pairs tested is significant {how}"
    else:
        text = "No pair could be tested."
    if left:
        text += f" {n_tested} tested, {left} not testable: too few independent days."
    found = found.drop(columns="tested", errors="ignore")
    if clocks := sum(str(note).startswith("a clock") for note in found.get("note", ())):
        text += f" {clocks} of them cannot be traded: a clock, not a lead."
    if truth is not None:
        planted = set(zip(truth["leader"], truth["follower"], strict=True))
        pairs = list(zip(found["leader"], found["follower"], strict=True))
        found = found.assign(planted=["yes" if pair in planted else "no" for pair in pairs])
        right = sum(pair in planted for pair in pairs)
        text += f" Planted: {len(planted)} pairs, of which {right} are found."
    table = found.set_index("leader") if len(found) else None
    return Section("Who leads whom", text, table=table)


def _shown(value: object) -> str:
    """Return a cell's text; a missing number is a dash, a symbol called "nan" is itself."""
    if isinstance(value, float):
        return f"{value:.4g}" if value == value else "–"
    return str(value)


_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("crossattn", ""),
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_TEMPLATES.filters["shown"] = _shown
