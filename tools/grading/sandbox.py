"""Sandbox: a kernel in bubblewrap, without network and with a file system of its own.

Only the kernel is inside. What drives it, restores the tests and writes the grades stays outside
and talks to it through sockets in a private folder, so that code of a submission can spoil nothing
but its own outputs.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.asyncio
from jupyter_client.manager import AsyncKernelManager

import crossattn
from crossattn._validation import check_int
from crossattn.checks.students import STUDENT_VARIABLE

GRADER, PACKAGE = (Path(file).resolve().parent for file in (__file__, crossattn.__file__))
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
MESSAGE_BYTES = 4 * 2**20
SCRATCH_BYTES = 64 * 2**20
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Parameters
    ----------
    memory_bytes : int
        Address space of the kernel.
    cpu_seconds : int
        Processor time of the kernel, all cells together.
    cell_seconds : int
        Wall-clock time of one cell.
    total_seconds : int
        Wall-clock time after which no further cell is started.
    output_bytes : int
        Text that one cell may print.
    submission_bytes : int
        Size of the notebook file.
    tasks : int
        Threads of the kernel; it may start no process at all.

    Examples
    --------
    >>> Limits(cell_seconds=5).output_bytes
    500000
    """

    memory_bytes: int = 4 * 2**30
    cpu_seconds: int = 90
    cell_seconds: int = 15
    total_seconds: int = 90
    output_bytes: int = 500_000
    submission_bytes: int = 5 * 2**20
    tasks: int = 256

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_int(name, value)


@functools.cache
def isolation_problem() -> str:
    """Say in one line why bubblewrap cannot isolate here; "" where it can.

    Returns
    -------
    str
    """
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap (bwrap) is not installed: install the package bubblewrap"
    limit = "from grading.kernel import forbid_processes; forbid_processes()"
    trial = subprocess.run(
        [program, "--ro-bind", "/", "/", "--unshare-all", sys.executable, "-c", limit],
        env=environment("/", "nobody"),
        capture_output=True,
        text=True,
    )
    if trial.returncode:
        reason = (trial.stderr.strip().splitlines() or ["no reason given"])[-1]
        return (
            f"bubblewrap cannot make a sandbox here ({reason}): allow unprivileged user "
            "namespaces, or grade on another machine"
        )
    return ""


def sandbox_command(folder: str, student: str) -> list[str]:
    """Return the bubblewrap command before the program: what is visible inside, and nothing else.

    Parameters
    ----------
    folder : str
        The private folder of this run, with the connection file and the sockets; writable, but
        for nothing else: see :func:`trespass`.
    student : str
        Handed to the submission as its id.

    Returns
    -------
    list of str

    Notes
    -----
    Visible: system libraries, Python with its packages, and the folders of :mod:`crossattn` and
    of the grader, all read-only. Not visible: assignments with their hidden tests, other
    submissions, home folders. What is written to ``/tmp`` and ``/dev/shm`` lies in memory, within
    bounds, and is forgotten.
    """
    site = [path for path in map(Path, sys.path) if path.name == "site-packages" and path.is_dir()]
    visible = [*map(Path, SYSTEM), Path(sys.prefix), Path(sys.base_prefix), *site]
    command = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent"]
    command += ["--new-session", "--clearenv", "--proc", "/proc", "--dev", "/dev"]
    for scratch in ("/tmp", "/dev/shm"):
        command += ["--size", str(SCRATCH_BYTES), "--tmpfs", scratch]
    for path in dict.fromkeys(visible):
        command += ["--ro-bind-try", str(path), str(path)]
    for code in (PACKAGE, GRADER):
        command += ["--ro-bind", str(code), str(code)]
    command += ["--bind", folder, folder]
    for name, value in environment("/tmp", student).items():
        command += ["--setenv", name, value]
    command += ["--remount-ro", "/dev", "--remount-ro", "/"]
    return [*command, "--chdir", "/tmp", "--"]


def environment(home: str, student: str) -> dict[str, str]:
    """Return the environment of a submission: no secret of the caller's, one thread, no display."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), str(GRADER.parent)]),
        "HOME": home,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "NUMBA_DISABLE_JIT": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "TQDM_DISABLE": "1",
        STUDENT_VARIABLE: student,
    }


def tasks_below(process: int) -> int:
    """Count the threads of a process and of all its descendants, as seen from outside."""
    count = 0
    for task in _names(f"/proc/{process}/task"):
        count += 1
        try:
            children = Path(f"/proc/{process}/task/{task}/children").read_text(encoding="ascii")
        except OSError:  # it has ended, or this system does not list children
            continue
        count += sum(tasks_below(int(child)) for child in children.split())
    return count


def _names(folder: str) -> list[str]:
    try:
        return [path.name for path in Path(folder).iterdir()]
    except OSError:
        return []


def trespass(folder: str, process: int, limits: Limits) -> str:
    """Say what a running submission does that no limit of its own process can prevent.

    Parameters
    ----------
    folder : str
        The private folder, which lies on the grader's disk.
    process : int
        Of the sandbox, seen from outside.
    limits : Limits

    Returns
    -------
    str
        "" where nothing is wrong.
    """
    for name in _names(folder):
        try:
            mode = os.lstat(Path(folder) / name).st_mode
        except OSError:
            continue
        if not (stat.S_ISSOCK(mode) or (name == "kernel.json" and stat.S_ISREG(mode))):
            return "it wrote to the folder of the kernel's sockets"
    if tasks_below(process) > limits.tasks:
        return f"it may start {limits.tasks} threads and started more"
    return ""


class SandboxedKernelManager(AsyncKernelManager):
    """Starts the kernel of one submission inside the sandbox and talks to it by local sockets.

    Class attributes are set by :func:`kernel_manager_for`, because nbclient makes the instance.
    """

    student = ""
    limits = Limits()
    isolated = True

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self._place = tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True)
        self.folder = self._place.name  # removed at the end, also of an interrupted run
        self.trespass = ""
        self._ended = threading.Event()
        self.transport = "ipc"
        self.connection_file = str(Path(self.folder) / "kernel.json")
        self.ip = str(Path(self.folder) / "s")

    @property
    def kernel_spec(self):
        """The ordinary Python kernel, interrupted by message: signals stop at the sandbox."""
        spec = super().kernel_spec
        spec.interrupt_mode = "message"
        return spec

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command that starts the kernel, wrapped unless isolation was waived."""
        bounds = [str(self.limits.memory_bytes), str(self.limits.cpu_seconds)]
        program = [sys.executable, "-m", "grading.kernel", *bounds]
        if self.isolated:
            wrapper = sandbox_command(self.folder, self.student)
        else:
            settings = environment(self.folder, self.student)
            wrapper = ["env", "-i", *(f"{name}={value}" for name, value in settings.items())]
        return [*wrapper, *program, "-f", self.connection_file]

    def client(self, **options):
        """Return a client that hangs up on a message of more than a few megabytes."""
        context = zmq.asyncio.Context()
        context.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES)
        return super().client(context=context, **options)

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        await super()._async_launch_kernel(kernel_cmd, **{**options, **quiet})
        if self.isolated:
            process = self.provisioner.process
            threading.Thread(target=self._watch, args=[process], daemon=True).start()

    def _watch(self, process: subprocess.Popen) -> None:
        while not (self.trespass or self._ended.wait(LOOK_SECONDS)):
            self.trespass = trespass(self.folder, process.pid, self.limits)
        if self.trespass:
            process.kill()  # all that is inside dies with it

    async def _async_cleanup_resources(self, restart: bool = False) -> None:
        self._ended.set()
        await super()._async_cleanup_resources(restart=restart)
        if not restart:
            self._place.cleanup()

    cleanup_resources = _async_cleanup_resources


def kernel_manager_for(student: str, limits: Limits, isolated: bool) -> type:
    """Return the class that starts kernels for one submission."""
    fields = {"student": student, "limits": limits, "isolated": isolated}
    return type("SubmissionKernelManager", (SandboxedKernelManager,), fields)
