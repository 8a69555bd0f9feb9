"""One HTML page from results: figures, tables, configuration; nothing is loaded from elsewhere.

Every text is escaped and the page forbids scripts and outside requests to itself, so that a symbol
name is data whatever it contains. Figures travel inside the page.
"""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossattn._utils import atomic_write
from crossattn.figures import png_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1d2530; --soft: #667; --line: #d8dde3; --paper: #fff; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e4e8ee; --soft: #9aa5b1; --line: #39424e; --paper: #14181d; }}
}}
body {{ font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 60rem; margin: 2.5rem auto; padding: 0 1.25rem; }}
h1 {{ font-size: 1.8rem; margin-bottom: .2rem; }}
h2 {{ font-size: 1.25rem; margin-top: 2.4rem; border-top: 1px solid var(--line);
      padding-top: 1.2rem; }}
p.lead, figcaption, footer {{ color: var(--soft); }}
figure {{ margin: 1.2rem 0; overflow-x: auto; }}
img {{ max-width: 100%; height: auto; background: #fff; border-radius: 4px; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }}
th, td {{ padding: .3rem .75rem; border-bottom: 1px solid var(--line); text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }}
div.table {{ overflow-x: auto; margin: 1rem 0; }}
footer {{ margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem;
          font-size: .85rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{body}
<footer>{footer}</footer>
</body>
</html>
"""


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Parameters
    ----------
    title : str
        Heading.
    text : str
        Plain paragraphs, separated by blank lines; no markup.
    table : DataFrame, optional
        Shown whole, index included; numbers with four significant digits.
    figure : matplotlib Axes or bytes, optional
        Drawn into the page: the figure of the axes, or a PNG.
    caption : str
        Under the figure; also its alternative text.
    """

    title: str
    text: str = ""
    table: pd.DataFrame | None = None
    figure: Axes | bytes | None = None
    caption: str = ""


def render_report(
    title: str, sections: Sequence[Section], *, lead: str = "", facts: Mapping[str, object] = {}
) -> str:
    """Return one self-contained HTML page.

    Parameters
    ----------
    title, lead : str
        Heading and the sentence under it.
    sections : sequence of Section
        In order.
    facts : mapping
        Configuration, seed, digest of the data: what a reader needs to repeat the run.

    Returns
    -------
    str

    Examples
    --------
    >>> page = render_report("A <b>bold</b> title", [Section("One", "Text")])
    >>> "<b>" in page
    False
    """
    body = "\n".join(_render_section(section) for section in sections)
    if facts:
        rows = "".join(f"<tr>{_cell(k, 'th')}{_cell(v)}</tr>" for k, v in facts.items())
        body += f'\n<h2>What was run</h2>\n<div class="table"><table>{rows}</table></div>'
    return _PAGE.format(
        title=html.escape(title),
        lead=html.escape(lead),
        body=body,
        footer="Made by crossattn. Research and teaching; not investment advice.",
    )


def write_report(path: str | os.PathLike, title: str, sections: Sequence[Section], **parts) -> None:
    """Write :func:`render_report`'s page to ``path``, whole or not at all."""
    page = render_report(title, sections, **parts)
    with atomic_write(path) as temporary:
        temporary.write_bytes(page.encode("utf-8", "backslashreplace"))


def leaders_section(edges: pd.DataFrame, *, truth: pd.DataFrame | None = None) -> Section:
    """Say who leads whom, or that nobody does.

    Parameters
    ----------
    edges : DataFrame
        :attr:`crossattn.LeadLagReport.edges`.
    truth : DataFrame, optional
        On a simulated market, its ``edges``: each claim is marked planted or not.

    Returns
    -------
    Section
    """
    found = edges[edges["significant"]].drop(columns="significant")
    how = (
        "after correcting for all of them (Benjamini-Hochberg); a p-value is valid after the "
        "choice of the lag."
    )
    if len(found):
        text = (
            f"{len(found)} of {len(edges)} ordered pairs are significant {how} An effect is in "
            "standard deviations of the follower's return for one of the leader's."
        )
    else:
        text = f"Nobody leads: none of {len(edges)} ordered pairs is significant {how}"
    if truth is not None:
        planted = set(zip(truth["leader"], truth["follower"], strict=True))
        pairs = list(zip(found["leader"], found["follower"], strict=True))
        found = found.assign(planted=["yes" if pair in planted else "no" for pair in pairs])
        right = sum(pair in planted for pair in pairs)
        text += f" Planted: {len(planted)} pairs, of which {right} are found."
    table = found.set_index("leader") if len(found) else None
    return Section("Who leads whom", text, table=table)


def _render_section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    parts += [f"<p>{html.escape(text)}</p>" for text in section.text.split("\n\n") if text.strip()]
    if section.table is not None:
        parts.append(f'<div class="table">{_render_table(section.table)}</div>')
    if section.figure is not None:
        parts.append(_render_figure(section.figure, section.caption or section.title))
    return "\n".join(parts)


def _render_table(table: pd.DataFrame) -> str:
    head = "".join(_cell(name, "th") for name in [table.index.name or "", *table.columns])
    rows = (
        f"<tr>{_cell(label, 'th')}{''.join(_cell(value) for value in row)}</tr>"
        for label, *row in table.itertuples(name=None)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cell(value: object, tag: str = "td") -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = "–" if text == "nan" and value != value else text  # a symbol may be called nan
    return f"<{tag}>{html.escape(text)}</{tag}>"


def _render_figure(figure: Axes | bytes, caption: str) -> str:
    png = figure if isinstance(figure, bytes) else png_of(figure)
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
