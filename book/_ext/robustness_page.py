"""``{robustness}``: which claims of the chapters hold on fresh seeds, from ``book/robustness.json``.

``make robustness`` writes that file; a row made before the chapter's code last changed is marked.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from textwrap import shorten
from typing import ClassVar

from drawn import FromResults
from sphinx.application import Sphinx

sys.path.append(str(Path(__file__).parents[2] / "tools"))
from notebooks import chapters
from robustness import code_digest

ENOUGH = 0.9  # of the shifts


def kept_rows(root: Path) -> dict[str, dict]:
    """Return the study's rows by chapter, none where no study was made."""
    path = root / "book" / "robustness.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def n_holding(row: dict, share: float) -> int:
    """Return how many of a chapter's asserts hold on at least ``share`` of the shifts."""
    most = (1 - share) * len(row["held"]) + 1e-9
    asserts = [entry for entry in row["failed"] if not entry["assert"].startswith("raises ")]
    return row["asserts"] - sum(len(entry["shifts"]) > most for entry in asserts)


def markdown(root: Path) -> list[str]:
    """Return the page's table and its list of asserts that fail at some shift."""
    rows = kept_rows(root)
    table = ["| Chapter | Asserts | Hold at every shift | Hold at 9 of 10 | Share, worst shift |"]
    table += ["|---|---:|---:|---:|---:|"]
    failing, totals, stale = [], Counter(), False
    for path in chapters(root):
        link = f"{{doc}}`/{path.relative_to(root).with_suffix('').as_posix()}`"
        if path.stem not in rows:
            table.append(f"| {link} | not studied | | | |")
            continue
        row = rows[path.stem]
        changed = row["code"] != code_digest(path)
        stale |= changed
        every, robust = n_holding(row, 1.0), n_holding(row, ENOUGH)
        worst = min(row["held"]) / row["asserts"]
        mark = " †" if changed else ""
        table.append(f"| {link}{mark} | {row['asserts']} | {every} | {robust} | {worst:.1%} |")
        totals.update(asserts=row["asserts"], every=every, robust=robust)
        failing += [
            f"- {link}: `{shorten(entry['assert'], 120)}` fails at {len(entry['shifts'])} of {len(row['held'])}"
            for entry in row["failed"]
        ]
    table.append(f"| **all** | {totals['asserts']} | {totals['every']} | {totals['robust']} | |")
    if stale:
        table += ["", "† The chapter's code has changed since."]
    return [*table, "", *(failing or ["No assert failed at any shift."])]


class Robustness(FromResults):
    """The table of the study and what failed in it."""

    sources = "book/robustness.json"
    blocks: ClassVar = {"claims": markdown}


def setup(app: Sphinx) -> dict:
    """Register."""
    app.add_directive("robustness", Robustness)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
