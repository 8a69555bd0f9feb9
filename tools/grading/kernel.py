"""The kernel that runs a submission: sets its own limits, then starts IPython.

Started by :mod:`grading.sandbox` as ``python -m grading.kernel MEMORY CPU -f
FILE``: limits set in the process itself cannot be raised by the code that runs in it.
They hold for one process, so it may start threads but no other process; nor may it ask for memory
outside its address space, or for namespaces of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import platform
import resource
import struct
import sys

FILE_BYTES = 16 * 2**20
OPEN_FILES = 256

# Numbers in the kernel's tables: the architecture, clone, clone3, and the calls that are refused.
SYSTEM_CALLS = {
    # fork, vfork, shmget, memfd_create, unshare
    "x86_64": (0xC000003E, 56, 435, (57, 58, 29, 319, 272)),
    # shmget, memfd_create, unshare; there is no fork and no vfork
    "aarch64": (0xC00000B7, 220, 435, (194, 279, 97)),
}
OTHER_ABI = 0x40000000
CLONE_THREAD = 0x00010000
SET_NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
NOT_THERE = 0x00050000 | errno.ENOSYS  # for clone3, whose flags a filter cannot see: clone is used
LOAD, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in what a filter reads


def limit(memory_bytes: int, cpu_seconds: int) -> None:
    """Bound what this process may use, for good.

    Parameters
    ----------
    memory_bytes, cpu_seconds : int
        Beyond the first an allocation raises ``MemoryError``; beyond the second the process ends.
    """
    for kind, bound in [
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ]:
        resource.setrlimit(kind, (bound, bound))


def filter_program(machine: str) -> bytes:
    """Return the filter of system calls for one kind of machine, as the kernel reads it.

    Examples
    --------
    >>> len(filter_program("x86_64")) % 8
    0
    """
    architecture, clone, clone3, refused = SYSTEM_CALLS[machine]
    steps = [(LOAD, 0, 0, ARCHITECTURE), (IF_EQUAL, 1, 0, architecture), (RETURN, 0, 0, REFUSE)]
    steps += [(LOAD, 0, 0, NUMBER), (IF_AT_LEAST, 0, 1, OTHER_ABI), (RETURN, 0, 0, REFUSE)]
    steps += [(IF_EQUAL, 0, 1, clone3), (RETURN, 0, 0, NOT_THERE)]
    for call in refused:
        steps += [(IF_EQUAL, 0, 1, call), (RETURN, 0, 0, REFUSE)]
    steps += [(IF_EQUAL, 1, 0, clone), (RETURN, 0, 0, ALLOW), (LOAD, 0, 0, FIRST_ARGUMENT)]
    steps += [(IF_ANY_BIT, 1, 0, CLONE_THREAD), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def forbid_processes() -> None:
    """Refuse new processes, hidden memory and new namespaces from now on; threads stay allowed.

    Raises
    ------
    OSError
        The system does not filter system calls, or this kind of machine is unknown.
    """
    if sys.platform != "linux" or platform.machine() not in SYSTEM_CALLS:
        raise OSError(f"no filter of system calls for {sys.platform} on {platform.machine()}")
    code = filter_program(platform.machine())
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    program = Program(len(code) // 8, ctypes.addressof(buffer))
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or system.prctl(
        SET_SECCOMP, FILTER, ctypes.byref(program)
    ):
        raise OSError(ctypes.get_errno(), "the system does not filter system calls")


def main(arguments: list[str]) -> None:
    """Set the limits, then hand over to IPython's kernel."""
    memory_bytes, cpu_seconds, *rest = arguments
    limit(int(memory_bytes), int(cpu_seconds))
    with contextlib.suppress(OSError):  # a sandbox is only made where this was tried and works
        forbid_processes()
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance([*rest, "--HistoryManager.hist_file=:memory:"])


if __name__ == "__main__":
    main(sys.argv[1:])
