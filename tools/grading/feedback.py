"""Feedback page of one student: HTML that loads nothing from elsewhere.

Every word of a submission is escaped, outputs are shown as text, and the policy of the page forbids
scripts and requests. Hidden tests are not shown; their messages are.
"""

from __future__ import annotations

import html
from dataclasses import dataclass

from nbformat.notebooknode import NotebookNode
from nbgrader.utils import determine_grade, is_grade, is_solution

SHOWN = 2_000
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto;
 padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8886;
 vertical-align: top }}
pre {{ overflow-x: auto; padding: .6rem; border: 1px solid #8886; border-radius: 4px }}
.full {{ color: #0a7d4b }} .part {{ color: #b3541e }}
@media (prefers-color-scheme: dark) {{ .full {{ color: #5fd3a0 }} .part {{ color: #ffab7a }} }}
</style></head><body>
<h1>{title}</h1>
<p><strong>{score:g} of {points:g} points.</strong> {note}</p>
<table><thead><tr><th scope="col">Test</th><th scope="col">Points</th><th scope="col">Message
</th></tr></thead><tbody>
{rows}
</tbody></table>
<h2>Your answers</h2>
{answers}
</body></html>
"""


@dataclass(frozen=True)
class Question:
    """One graded test of a submission.

    Parameters
    ----------
    name : str
    points, possible : float
    message : str
        Message of the test; "" where it passed.
    """

    name: str
    points: float
    possible: float
    message: str


def questions_of(notebook: NotebookNode) -> list[Question]:
    """Read the graded tests of an executed notebook, in order.

    Parameters
    ----------
    notebook : NotebookNode
        As the autograder left it.

    Returns
    -------
    list of Question
    """
    found, broken = [], ""
    for cell in notebook.cells:
        if is_grade(cell) and not is_solution(cell):
            points, possible = determine_grade(cell)
            name = cell.metadata.nbgrader.grade_id.removeprefix("test-")
            message = message_of(cell)
            if message.startswith("NameError") and broken:
                message = f"{message} (an answer above failed: {broken})"
            found.append(Question(name, points or 0.0, possible, message))
        elif cell.cell_type == "code":
            broken = message_of(cell) or broken
    return found


def message_of(cell: NotebookNode) -> str:
    """Return the message of a failed cell without its traceback, which would show the test."""
    errors = [output for output in cell.get("outputs", []) if output.output_type == "error"]
    for error in reversed(errors):
        value = str(error.evalue).strip()
        if error.ename == "NotImplementedError" and not value:
            return "nothing is written here yet"
        if error.ename in ("AssertionError", "CheckFailedError"):
            return value[:SHOWN] or "the test failed"
        return f"{error.ename}: {value}"[:SHOWN]
    return ""


def feedback_page(
    title: str, questions: list[Question], notebook: NotebookNode | None, note: str = ""
) -> str:
    """Write the page of one submission.

    Parameters
    ----------
    title : str
    questions : list of Question
    notebook : NotebookNode or None
        The executed submission, for the answers it gave.
    note : str
        Anything that concerns the whole submission.

    Returns
    -------
    str
        HTML.

    Examples
    --------
    >>> page = feedback_page("ps1", [Question("mask", 0, 2, "<b>wrong</b>")], None)
    >>> "0 of 2 points" in page and "&lt;b&gt;wrong" in page and "<script" not in page
    True
    """
    rows = "\n".join(_row(question) for question in questions)
    answers = [cell for cell in notebook.cells if is_solution(cell)] if notebook else []
    return PAGE.format(
        title=html.escape(title),
        score=sum(q.points for q in questions),
        points=sum(q.possible for q in questions),
        note=html.escape(note),
        rows=rows,
        answers="\n".join(_answer(cell) for cell in answers) or "<p>None could be read.</p>",
    )


def _row(question: Question) -> str:
    kind = "full" if question.points == question.possible else "part"
    points = f"{question.points:g} / {question.possible:g}"
    message = html.escape(question.message or "passed")
    name = html.escape(question.name)
    return f'<tr><td>{name}</td><td class="{kind}">{points}</td><td>{message}</td></tr>'


def _answer(cell: NotebookNode) -> str:
    parts = [f"<h3>{html.escape(cell.metadata.nbgrader.grade_id)}</h3>"]
    parts.append(f"<pre>{html.escape(cell.source)}</pre>")
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            parts.append(f"<pre>{html.escape(output.text[:SHOWN])}</pre>")
        elif output.output_type == "error":
            line = f"{output.ename}: {output.evalue}"[:SHOWN]
            parts.append(f'<pre class="part">{html.escape(line)}</pre>')
    return "\n".join(parts)
