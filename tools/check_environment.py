"""Check that this machine can run the book: ``python tools/check_environment.py``.

Needs nothing but the standard library, so that it runs where everything else is missing.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

OLDEST = (3, 11)
CORE = {"numpy": "2", "pandas": "2.2", "torch": "2.7", "scipy": "1.13", "matplotlib": "3.9"}
EXTRAS = {
    "book": ["jupyterlab", "ipykernel", "nbval"],
    "data": ["skfolio", "bokeh_sampledata"],
    "course": ["nbgrader", "sphinx_revealjs"],
}
MEMORY_GB, DISK_GB = 4, 2


@dataclass(frozen=True)
class Finding:
    """One line of the check.

    Parameters
    ----------
    what : str
    state : str
        ``"ok"``, ``"missing"`` (nothing works without it) or ``"optional"``.
    remedy : str
        What to do; "" where nothing needs doing.
    """

    what: str
    state: str
    remedy: str = ""


def _judged(what: str, is_fine: bool, otherwise: str, remedy: str) -> Finding:
    """Return a finding that is ok, or in the state ``otherwise`` with what to do about it."""
    return Finding(what, "ok") if is_fine else Finding(what, otherwise, remedy)


def _version(text: str) -> tuple[int, ...]:
    parts = text.split("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def check_python() -> Finding:
    """Check the version of Python."""
    remedy = f"install Python {'.'.join(map(str, OLDEST))} or newer"
    is_fine = sys.version_info >= OLDEST
    return _judged(f"Python {platform.python_version()}", is_fine, "missing", remedy)


def check_package(name: str, oldest: str = "0", extra: str = "") -> Finding:
    """Check that a package is installed and not too old; ``extra`` names what installs it."""
    remedy = f"pip install '.[{extra}]'" if extra else f"pip install '{name}>={oldest}'"
    state = "optional" if extra else "missing"
    if importlib.util.find_spec(name) is None:
        return Finding(f"{name} is not installed", state, remedy)
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(f"{name}, version unknown", "ok")
    if _version(version) < _version(oldest):
        return Finding(f"{name} {version} is older than {oldest}", state, remedy)
    return Finding(f"{name} {version}", "ok")


def check_machine() -> list[Finding]:
    """Check memory and disk, and name the device that models will use."""
    findings = []
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    remedy = f"free {DISK_GB} GB: the book and its cache need them"
    findings.append(_judged(f"{free:.0f} GB of disk free", free >= DISK_GB, "missing", remedy))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        remedy = "set CROSSATTN_SIZE=0.3 for smaller samples"
        what, is_fine = f"{memory:.0f} GB of memory", memory >= MEMORY_GB
        findings.append(_judged(what, is_fine, "optional", remedy))
    if importlib.util.find_spec("torch"):
        import torch

        name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
        findings.append(Finding(f"models run on: {name} (a CPU is enough)", "ok"))
    return findings


def check_sandbox() -> Finding:
    """Check that submissions can be graded here; learners do not need it."""
    if importlib.util.find_spec("jupyter_client") is None:
        remedy = "pip install '.[course]'"
        return Finding("no sandbox for grading", "optional", remedy)
    from grading.sandbox import isolation_problem  # beside this file

    problem = isolation_problem()
    return Finding("sandbox for grading", "optional" if problem else "ok", problem)


def check_environment() -> list[Finding]:
    """Run every check.

    Returns
    -------
    list of Finding

    Examples
    --------
    >>> check_environment()[0].state
    'ok'
    """
    findings = [check_python()]
    findings += [check_package(name, oldest) for name, oldest in CORE.items()]
    for extra, names in EXTRAS.items():
        findings += [check_package(name, extra=extra) for name in names]
    return [*findings, *check_machine(), check_sandbox()]


def main() -> int:
    """Print one line a finding; 0 where the chapters can run, 2 where something is missing."""
    findings = check_environment()
    for finding in findings:
        remedy = f"  ->  {finding.remedy}" if finding.remedy else ""
        print(f"{finding.state:9} {finding.what}{remedy}")
    missing = sum(finding.state == "missing" for finding in findings)
    print("everything that the chapters need is here" if not missing else f"{missing} to mend")
    return 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
