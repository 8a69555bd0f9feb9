"""The kernel that runs a submission: sets its own limits, then starts IPython.

Started by :mod:`crossattn.course.sandbox` as ``python -m crossattn.course.kernel MEMORY CPU -f
FILE``: limits set in the process itself can be lowered by nobody's code and raised by nobody's.
"""

from __future__ import annotations

import resource
import sys

FILE_BYTES = 32 * 2**20


def limit(memory_bytes: int, cpu_seconds: int) -> None:
    """Bound address space, processor time, file size and core dumps of this process for good.

    Parameters
    ----------
    memory_bytes, cpu_seconds : int
        Beyond the first an allocation raises ``MemoryError``; beyond the second the process ends.
    """
    for kind, bound in [
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ]:
        resource.setrlimit(kind, (bound, bound))


def main(arguments: list[str]) -> None:
    """Set the limits, then hand over to IPython's kernel."""
    memory_bytes, cpu_seconds, *rest = arguments
    limit(int(memory_bytes), int(cpu_seconds))
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance([*rest, "--HistoryManager.hist_file=:memory:"])


if __name__ == "__main__":
    main(sys.argv[1:])
