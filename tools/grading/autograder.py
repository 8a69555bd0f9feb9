"""nbgrader's course directory, without its command line: releases, graded notebooks, gradebook.

nbgrader restores the tests of the source, records points and keeps the gradebook. Submissions are
executed by :mod:`grading.execute`.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import warnings
from pathlib import Path

import nbgrader.api
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import CheckCellMetadata, LimitOutput, SaveAutoGrades
from sqlalchemy.exc import SAWarning
from traitlets.config import Config, PyFileConfigLoader

from crossattn.errors import InvalidInputError
from grading.execute import SubmissionExecute
from grading.sandbox import Limits

# nbgrader starts a process to ask for this constant each time that it opens the gradebook
nbgrader.api.get_alembic_version = functools.cache(nbgrader.api.get_alembic_version)


class Course:
    """One nbgrader course directory: sources in, gradebook and graded notebooks out.

    Parameters
    ----------
    root : Path
        Folder with ``source/``; ``release/``, ``submitted/``, ``autograded/`` and ``gradebook.db``
        lie beside it.
    configuration : Path
        ``nbgrader_config.py`` of the course.
    """

    def __init__(self, root: Path, configuration: Path) -> None:
        self.root = Path(root).resolve()
        loader = PyFileConfigLoader(configuration.name, path=str(configuration.parent))
        self.config: Config = loader.load_config()
        self.config.CourseDirectory.root = str(self.root)
        self.config.CourseDirectory.db_url = f"sqlite:///{self.root / 'gradebook.db'}"
        # nbgrader calls alembic by name, which is beside this Python but perhaps not on the path
        programs = str(Path(sys.executable).parent)
        if programs not in os.environ.get("PATH", "").split(os.pathsep):
            os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", "")])
        self.log = logging.Logger("crossattn.checks", logging.ERROR)
        self.complaints: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.complaints.append(record.getMessage())
        self.log.addHandler(handler)

    def _directory(self, assignment: str, student: str = "*") -> CourseDirectory:
        config = Config(self.config)
        config.CourseDirectory.assignment_id = assignment
        config.CourseDirectory.student_id = student
        return CourseDirectory(config=config, log=self.log)

    def _convert(self, converter, assignment: str) -> None:
        """Run nbgrader; where it fails, raise its first message."""
        self.complaints.clear()
        try:
            converter.start()
        except NbGraderException:
            reason = " ".join("".join(self.complaints[:1]).split())
            raise InvalidInputError(f"{assignment} cannot be converted: {reason[:200]}") from None

    def release(self, assignment: str) -> None:
        """Generate the release of one assignment and enter it into the gradebook.

        Raises
        ------
        InvalidInputError
            nbgrader cannot read the source: a solution without an end, two cells with one name.
        """
        converter = GenerateAssignment(
            coursedir=self._directory(assignment), config=self.config, force=True, log=self.log
        )
        self._convert(converter, assignment)

    def autograde(
        self, assignment: str, student: str, limits: Limits, *, isolated: bool = True
    ) -> Path:
        """Grade ``submitted/STUDENT/ASSIGNMENT``; the executed notebook's path is returned."""
        execute = type(
            "LimitedExecute", (SubmissionExecute,), {"limits": limits, "isolated": isolated}
        )
        converter = Autograde(
            coursedir=self._directory(assignment, student),
            config=self.config,
            force=True,
            autograde_preprocessors=[execute, LimitOutput, SaveAutoGrades, CheckCellMetadata],
            log=self.log,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)
            self._convert(converter, assignment)
        return self.root / "autograded" / student / assignment / f"{assignment}.ipynb"
