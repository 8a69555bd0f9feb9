"""Every check that CI runs, one after the other, and a summary a person can read.

Usage: ``python tools/check.py [STEP ...]``; without a step, all of them.
"""

import os
import subprocess
import sys
import time

from notebooks import ROOT, environment, executed_notebooks

WORKERS = str(max(1, min(4, os.cpu_count() or 1)))
PYTEST = ["python", "-m", "pytest", "-q", "-n", WORKERS, "--dist", "loadfile"]
NOTEBOOKS = [str(path) for path in executed_notebooks()]

STEPS = {
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "imports": ["lint-imports"],
    "notebooks-clean": ["nbstripout", "--verify", "--keep-id", *NOTEBOOKS],
    "tests": [*PYTEST, "-p", "no:nbval"],
    "notebooks": ["python", "tools/execute_notebooks.py", *NOTEBOOKS],
    "assignments": ["python", "tools/assignments.py", "--check"],
    "mutations": ["python", "tools/mutation_checks.py"],
}


def run(command: list[str]) -> bool:
    """Run one step from the repository's root; True where it passed."""
    return subprocess.run(command, cwd=ROOT, env=environment(OMP_NUM_THREADS="1")).returncode == 0


def main(names: list[str]) -> int:
    """Run the named steps (all by default) and print what passed, with times."""
    if unknown := set(names) - STEPS.keys():
        print(f"error: no step {sorted(unknown)}; there are {', '.join(STEPS)}", file=sys.stderr)
        return 2
    rows = []
    for name in names or STEPS:
        print(f"\n--- {name}", flush=True)
        started = time.monotonic()
        rows.append((name, run(STEPS[name]), time.monotonic() - started))
    print("\nsummary")
    for name, passed, seconds in rows:
        print(f"  {'passed' if passed else 'FAILED':8}{name:18}{seconds:7.1f} s")
    failed = sum(not passed for _, passed, _ in rows)
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
