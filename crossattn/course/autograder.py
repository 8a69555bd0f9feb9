"""nbgrader's autograder with the kernel in the sandbox, bounded output, and tests that must run.

nbgrader restores the tests of the source, records points and keeps the gradebook. What is added
here: limits, a proof that each test ran to its end, and trials that an honest kernel must fail.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import secrets
import sys
import time
import warnings
from pathlib import Path

import nbgrader.api
from nbclient.exceptions import DeadKernelError
from nbformat.notebooknode import NotebookNode
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import CheckCellMetadata, Execute, LimitOutput, SaveAutoGrades
from nbgrader.utils import is_grade
from sqlalchemy.exc import SAWarning
from traitlets.config import Config, PyFileConfigLoader

from crossattn.course.sandbox import Limits, kernel_manager_for

# nbgrader starts a process to ask for this constant each time that it opens the gradebook
nbgrader.api.get_alembic_version = functools.cache(nbgrader.api.get_alembic_version)

PRINTED = {"stream", "display_data", "execute_result", "error", "update_display_data"}

# An honest kernel ends this with the last line's error; one that was tampered with does not. The
# checks that a test imports are read afresh, whatever a submission has put in their place.
TRIAL = """
import sys
for name in [n for n in sys.modules if n.startswith("crossattn.course")]:
    del sys.modules[name]
from crossattn.course import check_p_value
import numpy
try:
    assert False
except AssertionError:
    try:
        numpy.testing.assert_allclose(0.0, 1.0)
    except AssertionError:
        try:
            check_p_value(lambda *_: 0.0)
        except AssertionError:
            raise ValueError({proof!r})
"""


class SubmissionExecute(Execute):
    """Executes one submission inside the sandbox, within limits."""

    limits = Limits()
    isolated = True

    def preprocess(self, nb: NotebookNode, resources: dict, km=None) -> tuple[NotebookNode, dict]:
        """Execute all cells; see :class:`nbgrader.preprocessors.Execute`."""
        self.kernel_manager_class = kernel_manager_for(
            resources["nbgrader"]["student"], self.limits, self.isolated
        )
        self.timeout = self.limits.cell_seconds
        self.kernel_name = "python3"
        self.stopped = ""
        self.printed = 0
        self.deadline = time.monotonic() + self.limits.total_seconds
        return super().preprocess(nb, resources, km=km)

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """Execute one cell, or say why not."""
        if cell.cell_type != "code":
            return cell, resources
        graded = is_grade(cell)
        if not self.stopped and time.monotonic() > self.deadline:
            self.stopped = f"the submission ran longer than {self.limits.total_seconds} s"
        if not self.stopped and graded and not self._is_honest(index):
            self.stopped = "the code before this test changed how tests run"
        if not self.stopped:
            self._run(cell, index, proof=secrets.token_hex(16) if graded else "")
        self.nb.cells[index] = cell  # nbclient has put the trial in its place
        if self.stopped:
            _fail(cell, "SubmissionStoppedError", self.stopped)
        return cell, resources

    def _run(self, cell: NotebookNode, index: int, proof: str = "") -> None:
        source, self.printed = cell.source, 0
        if proof:
            cell.source = f"{source}\nprint({proof!r})"
        try:
            self.execute_cell(cell, index, store_history=False)
        except DeadKernelError:
            self.stopped = "the kernel ended (too much processor time, or the code ended it)"
        except Exception:  # whatever else a submission does to its kernel ends here
            self.stopped = "the kernel no longer answers (it ran too long, or printed too much)"
        finally:
            cell.source = source
        if self.printed > self.limits.output_bytes:
            bound = f"a cell may print {self.limits.output_bytes:,} bytes, this one printed more"
            self.stopped = bound if self.stopped else ""
            _fail(cell, "OutputLimitError", bound)
        elif proof and not _take_proof(cell, proof) and not _failed(cell):
            _fail(cell, "TestDidNotRunError", "the test was ended before its last line")

    def _is_honest(self, index: int) -> bool:
        """Run the trial in the kernel; True where it ends as it must."""
        proof = secrets.token_hex(16)
        source = TRIAL.format(proof=proof)
        trial = NotebookNode(id="trial", cell_type="code", source=source, metadata={}, outputs=[])
        self._run(trial, index)
        return any(output.get("evalue") == proof for output in trial.outputs)

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int):
        """Keep an output, unless the cell has already printed too much; then interrupt it."""
        if msg["msg_type"] in PRINTED:
            within = self.printed <= self.limits.output_bytes
            self.printed += len(str(msg["content"]))
            if self.printed > self.limits.output_bytes:
                if within:
                    self._interruption = asyncio.ensure_future(self.km.interrupt_kernel())
                return None
        return super().process_message(msg, cell, cell_index)


def _failed(cell: NotebookNode) -> bool:
    return any(output.output_type == "error" for output in cell.outputs)


def _fail(cell: NotebookNode, name: str, reason: str) -> None:
    if not any(output.get("ename") == name for output in cell.outputs):
        cell.outputs.append(
            NotebookNode(output_type="error", ename=name, evalue=reason, traceback=[reason])
        )


def _take_proof(cell: NotebookNode, proof: str) -> bool:
    """Remove the proof from the cell's outputs; False where it is not there."""
    for output in cell.outputs:
        if output.output_type == "stream" and proof in output.text:
            output.text = output.text.replace(proof + "\n", "").replace(proof, "")
            return True
    return False


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
        self.log = logging.getLogger("crossattn.course")
        self.log.setLevel(logging.CRITICAL)

    def _directory(self, assignment: str, student: str = "*") -> CourseDirectory:
        config = Config(self.config)
        config.CourseDirectory.assignment_id = assignment
        config.CourseDirectory.student_id = student
        return CourseDirectory(config=config, log=self.log)

    def release(self, assignment: str) -> Path:
        """Generate the release of one assignment and enter it into the gradebook."""
        converter = GenerateAssignment(
            coursedir=self._directory(assignment), config=self.config, force=True, log=self.log
        )
        converter.start()
        return self.root / "release" / assignment

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
            converter.start()
        return self.root / "autograded" / student / assignment / f"{assignment}.ipynb"
