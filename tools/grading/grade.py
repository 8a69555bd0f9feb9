"""Grade a folder of submissions: ``python -m grading.grade SUBMISSIONS --out DIR``.

SUBMISSIONS holds ``STUDENT/ASSIGNMENT.ipynb``, or nbgrader's folders, a folder an assignment.
DIR gets ``grades.csv`` (a row a submission), ``questions.csv`` (a row a test), ``feedback/`` (a
page a submission) and ``gradebook.db`` with the graded notebooks, for nbgrader's own tools.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import crossattn
from crossattn.errors import CrossAttentionError, InvalidInputError, MissingDependencyError
from grading.sandbox import Limits, isolation_problem
from grading.submissions import (
    Submission,
    claimed_id,
    find_submissions,
    left_out,
    read_submission,
)

ASSIGNMENTS = Path(crossattn.__file__).resolve().parent.parent / "book" / "assignments"
REPLACED = ("source", "release", "submitted", "autograded", "feedback")  # of DIR, by each grading


@dataclass(frozen=True)
class Graded:
    """The result of one submission; ``note`` is the reason where it could not be graded."""

    submission: Submission
    questions: list
    note: str
    seconds: float

    @property
    def score(self) -> float:
        """Points reached."""
        return sum(question.points for question in self.questions)

    @property
    def possible(self) -> float:
        """Points that could be reached."""
        return sum(question.possible for question in self.questions)


def grade_folder(
    submissions: Path,
    out: Path,
    *,
    assignments: Path = ASSIGNMENTS,
    limits: Limits | None = None,
    isolation: bool = True,
) -> list[Graded]:
    """Grade every submission of a folder and write grades, questions and feedback.

    Parameters
    ----------
    submissions : Path
        One folder a student.
    out : Path
        Where the results go; graded again if run again.
    assignments : Path
        Folder with ``nbgrader_config.py`` and ``source/``.
    limits : Limits, optional
    isolation : bool
        False runs submissions with limits but without the sandbox: as you, on your files.

    Returns
    -------
    list of Graded

    Raises
    ------
    InvalidInputError
        No sandbox can be made here, there is nothing to grade, or ``out`` would replace it.

    Built in chapter: Instructor's guide
    """
    problem = isolation_problem() if isolation else ""
    if problem:
        raise InvalidInputError(f"{problem}; --no-isolation grades without a sandbox, as yourself")
    try:
        from grading.autograder import Course
    except ImportError as error:
        raise MissingDependencyError(
            f"grading needs {error.name}: pip install '.[course]'"
        ) from None
    limits = limits or Limits()
    source = Path(assignments) / "source"
    names = sorted(path.name for path in source.glob("*/"))
    found = list(find_submissions(Path(submissions), names))
    for path in left_out(Path(submissions), names):
        print(f"not graded: {path} (known names: {', '.join(names)})", file=sys.stderr)
    if not found:
        raise InvalidInputError(f"SUBMISSIONS holds no notebook of {source}: nothing to grade")
    out = Path(out)
    for read in (Path(submissions), source):
        if any(read.resolve().is_relative_to((out / name).resolve()) for name in REPLACED):
            raise InvalidInputError(f"results in {out} would replace {read}: name another folder")
    out.mkdir(parents=True, exist_ok=True)
    course = Course(out, Path(assignments) / "nbgrader_config.py")
    for name in sorted({submission.assignment for submission in found}):
        shutil.rmtree(out / "source" / name, ignore_errors=True)
        shutil.copytree(source / name, out / "source" / name)
        course.release(name)
    results = []
    for number, submission in enumerate(found, start=1):
        graded = _grade(submission, course, limits, isolation)
        results.append(graded)
        _write_tables(results, out)  # each time, so that what is done is kept if this is stopped
        print(
            f"{number:3} of {len(found)}  {submission.student:20} {submission.assignment:6} "
            f"{graded.score:5g} / {graded.possible:g}  {graded.seconds:5.1f} s  {graded.note}",
            flush=True,
        )
    return results


def _grade(submission: Submission, course, limits: Limits, isolation: bool) -> Graded:
    import nbformat

    from grading.feedback import Question, feedback_page, questions_of
    from grading.nbgrader_metadata import restore_marks

    started, notes, notebook = time.monotonic(), [], None
    student, name = submission.student, submission.assignment
    place = course.root / "submitted" / student / name
    shutil.rmtree(place, ignore_errors=True)
    try:
        submitted = read_submission(submission.path, limits)
        release = nbformat.read(course.root / "release" / name / f"{name}.ipynb", as_version=4)
        missing = restore_marks(submitted, release)
        if missing:
            notes.append(f"cells were missing and are added: {', '.join(missing)}")
        if (claimed := claimed_id(submitted)) != student:
            notes.append(f"the notebook names {claimed[:64]!r}, its data here are of {student!r}")
        place.mkdir(parents=True)
        nbformat.write(submitted, place / f"{name}.ipynb")
        graded = course.autograde(name, student, limits, isolated=isolation)
        notebook = nbformat.read(graded, as_version=4)
        questions = questions_of(notebook)
    except InvalidInputError as error:
        notes.append(str(error))
    except Exception as error:  # one damaged submission must not stop the others
        lines = str(error).splitlines() or [""]
        notes.append(f"could not be graded: {type(error).__name__} {lines[-1][:200]}")
    if notebook is None:
        original = nbformat.read(course.root / "source" / name / f"{name}.ipynb", as_version=4)
        questions = [Question(q.name, 0.0, q.possible, "") for q in questions_of(original)]
    stopped = {q.message for q in questions if q.message.startswith("SubmissionStopped")}
    note = "; ".join([*notes, *sorted(stopped)])
    page = feedback_page(f"{name}: {student}", questions, notebook, note)
    target = course.root / "feedback" / student / f"{name}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    return Graded(submission, questions, note, time.monotonic() - started)


def _write_tables(results: list[Graded], out: Path) -> None:
    with (out / "grades.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["student", "assignment", "score", "max_score", "seconds", "note"])
        for graded in results:
            who = [graded.submission.student, graded.submission.assignment]
            figures = [f"{graded.score:g}", f"{graded.possible:g}", f"{graded.seconds:.1f}"]
            table.writerow([*who, *figures, _plain(graded.note)])
    with (out / "questions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["student", "assignment", "question", "points", "max_points", "message"])
        for graded in results:
            who = [graded.submission.student, graded.submission.assignment]
            for q in graded.questions:
                figures = [f"{q.points:g}", f"{q.possible:g}"]
                table.writerow([*who, q.name, *figures, _plain(q.message)])


def _plain(text: str) -> str:
    """One line that no spreadsheet takes for a formula."""
    line = " ".join(text.split())
    return f"'{line}" if line[:1] in ("=", "+", "-", "@") else line


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 done, 2 refused, 130 stopped with what was graded kept."""
    parser = argparse.ArgumentParser(prog="python -m grading.grade", description=__doc__)
    parser.add_argument("submissions", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--assignments", type=Path, default=ASSIGNMENTS)
    parser.add_argument("--memory-mb", type=int, default=4096)
    parser.add_argument("--cell-seconds", type=int, default=15)
    parser.add_argument("--total-seconds", type=int, default=90)
    parser.add_argument("--no-isolation", action="store_true")
    options = parser.parse_args(arguments)
    try:
        limits = Limits(
            memory_bytes=options.memory_mb * 2**20,
            cell_seconds=options.cell_seconds,
            total_seconds=options.total_seconds,
        )
        results = grade_folder(
            options.submissions,
            options.out,
            assignments=options.assignments,
            limits=limits,
            isolation=not options.no_isolation,
        )
    except (CrossAttentionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; what was graded is in {options.out}", file=sys.stderr)
        return 130
    seconds = sum(graded.seconds for graded in results)
    print(f"{len(results)} submissions graded in {seconds:.0f} s: {options.out / 'grades.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
