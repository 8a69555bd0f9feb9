"""Execute one submission in the sandbox, with bounded output and tests that must run.

Around each test stand a trial that an honest kernel must fail, and a proof that the test ran to
its end; of what it shows, only what it printed and whether it failed is kept.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import secrets
import time

from nbclient.exceptions import DeadKernelError
from nbformat.notebooknode import NotebookNode
from nbgrader.preprocessors import Execute
from nbgrader.utils import is_grade, is_locked

from grading.sandbox import Limits, kernel_manager_for

PRINTED = {"stream", "display_data", "execute_result", "error", "update_display_data"}

BUILTINS = {name for name in dir(builtins) if not name.startswith("_")} - {"super"}

# What surrounds a test inside the kernel: see grading.kernel_guard, read afresh each time.
BEGIN = """
import sys
for name in [n for n in sys.modules if n.startswith("crossattn.checks")]:
    del sys.modules[name]
from grading.kernel_guard import begin
try:
    assert False
except AssertionError:
    begin({proof!r}, {student!r}, {store!r}, {needs!r})
"""
END = """
from grading.kernel_guard import end
end()
"""
# A cell that printed too much is interrupted; where it had ended before, this takes the blow.
SETTLE = """
import time
time.sleep(1)
"""


class SubmissionExecute(Execute):
    """Executes one submission inside the sandbox, within limits."""

    limits = Limits()
    isolated = True

    def preprocess(self, nb: NotebookNode, resources: dict, km=None) -> tuple[NotebookNode, dict]:
        """Execute all cells; see :class:`nbgrader.preprocessors.Execute`."""
        self.student = resources["nbgrader"]["student"]
        self.kernel_manager_class = kernel_manager_for(self.student, self.limits, self.isolated)
        self.timeout = self.limits.cell_seconds
        self.kernel_name = "python3"
        self.stopped = ""
        self.printed = 0
        self.modules = imported_names(nb)
        self.deadline = time.monotonic() + self.limits.total_seconds
        return super().preprocess(nb, resources, km=km)

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """Execute one cell, or record why it was not executed."""
        if cell.cell_type != "code":
            return cell, resources
        graded = is_grade(cell)
        if not self.stopped and time.monotonic() > self.deadline:
            self.stopped = f"the submission ran longer than {self.limits.total_seconds} s"
        if graded and not self.stopped:
            self._test(cell, index)
        elif not self.stopped:
            self._run(cell, index)
            self._settle(index)
        self.nb.cells[index] = cell  # nbclient has put what surrounds a test in its place
        if graded:
            keep_verdict(cell)
        if self.stopped:
            _fail(cell, "SubmissionStoppedError", self.stopped)
        return cell, resources

    def _test(self, cell: NotebookNode, index: int) -> None:
        """Run one test between its trial and its end, with its own builtins and modules."""
        proof, store = secrets.token_hex(16), f"original_{secrets.token_hex(8)}"
        test, needs = with_originals(cell.source, self.modules, store)
        needs["print"] = "builtins"  # for the proof
        begin = BEGIN.format(proof=proof, student=self.student, store=store, needs=needs)
        if self._silently(begin, index) != proof and not self.stopped:
            self.stopped = "the code before this test changed how tests run"
        if self.stopped:
            return
        source, proof = cell.source, secrets.token_hex(16)
        cell.source = f"{test}\n{store}['print']({proof!r})"
        self._run(cell, index)
        cell.source = source
        if not _take_proof(cell, proof) and not _failed(cell):
            _fail(cell, "TestDidNotRunError", "the test was ended before its last line")
        self._settle(index)
        if not self.stopped:
            self._silently(END, index)

    def _run(self, cell: NotebookNode, index: int) -> None:
        self.printed = 0
        try:
            self.execute_cell(cell, index, store_history=False)
        except DeadKernelError:
            ended = "the kernel ended (too much processor time, or the code ended it)"
            self.stopped = self.km.trespass or ended
        except Exception:  # whatever else a submission does to its kernel ends here
            silent = "the kernel no longer answers (it ran too long, or printed too much)"
            self.stopped = self.km.trespass or silent
        if self.printed > self.limits.output_bytes:
            bound = f"a cell may print {self.limits.output_bytes:,} bytes, this one printed more"
            self.stopped = bound if self.stopped else ""
            _fail(cell, "OutputLimitError", bound)

    def _settle(self, index: int) -> None:
        if self.printed > self.limits.output_bytes and not self.stopped:
            self._silently(SETTLE, index)

    def _silently(self, source: str, index: int) -> str:
        """Run a line of the grader's own; return the message with which it failed, or ""."""
        cell = NotebookNode(id="grader", cell_type="code", source=source, metadata={}, outputs=[])
        self._run(cell, index)
        return "".join(str(output.evalue) for output in cell.outputs if "evalue" in output)

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


def imported_names(notebook: NotebookNode) -> dict[str, str]:
    """Return the modules that the locked cells of a notebook import, by the name they get.

    Examples
    --------
    >>> cell = NotebookNode(cell_type="code", source="import numpy as np\\nimport torch")
    >>> cell["metadata"] = NotebookNode(nbgrader=NotebookNode(locked=True, grade_id="setup"))
    >>> imported_names(NotebookNode(cells=[cell]))
    {'np': 'numpy', 'torch': 'torch'}
    """
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and is_locked(cell):
            for node in _nodes(cell.source):
                if isinstance(node, ast.Import):
                    found |= {name.asname or name.name: name.name for name in node.names}
    return found


def with_originals(test: str, modules: dict[str, str], store: str) -> tuple[str, dict[str, str]]:
    """Make a test independent of what a submission has made of builtins and of module names.

    Parameters
    ----------
    test : str
        Source of the test.
    modules : dict of str
        See :func:`imported_names`.
    store : str
        Name of the dictionary from which the test takes them.

    Returns
    -------
    source : str
    needs : dict of str
        What the dictionary must hold: the module of each name, ``"builtins"`` for a builtin.

    Examples
    --------
    >>> with_originals("assert abs(np.pi - mine) < 1", {"np": "numpy"}, "known")
    ("assert known['abs'](known['np'].pi - mine) < 1", {'abs': 'builtins', 'np': 'numpy'})
    >>> with_originals("def total(sum): return sum", {}, "known")
    ('def total(sum): return sum', {})
    """
    nodes = _nodes(test)
    bound = {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound |= {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    known = {**dict.fromkeys(BUILTINS, "builtins"), **modules}
    read = sorted({node.id for node in names if node.id in known} - bound)
    needs = {name: known[name] for name in read}

    class Original(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            if node.id not in needs:
                return node
            place = ast.Name(store, ast.Load())
            return ast.Subscript(place, ast.Constant(node.id), ast.Load())

    return ast.unparse(Original().visit(nodes[0])) if needs else test, needs


def _nodes(source: str) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(source)))
    except SyntaxError:  # a magic of the course's own
        return []


def keep_verdict(cell: NotebookNode) -> None:
    """Leave of a test's outputs what it printed and whether it failed.

    nbgrader takes a displayed number for points and a warning for a failure; either may come from
    the answer that is tested.
    """
    cell.outputs = [out for out in cell.outputs if out.output_type in ("stream", "error")]
    for output in cell.outputs:
        if output.output_type == "stream":
            output.name = "stdout"


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
