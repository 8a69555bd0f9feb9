"""Break the package on purpose, one way at a time: each breakage must turn its tests red.

A test that cannot fail proves nothing. Each entry replaces one text in a copy of the package
and runs the tests that are there to notice. Usage: ``python tools/breakages.py [NAME ...]``.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TESTS_FAILED = 1  # pytest's exit code; 2 to 5 mean that the tests were not run


class Breakage(NamedTuple):
    """One deliberate defect: where, what becomes what, and which tests must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


BREAKAGES: list[Breakage] = []


def check(breakage: Breakage) -> str:
    """Apply one breakage to a copy and return what went wrong; empty where the tests noticed."""
    source = (ROOT / breakage.file).read_text(encoding="utf-8")
    if source.count(breakage.old) != 1:
        return f"its text occurs {source.count(breakage.old)} times in {breakage.file}"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("crossattn", "tests"):
            shutil.copytree(
                ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", "*.nbi")
            )
        shutil.copy(ROOT / "pyproject.toml", copy)
        broken = source.replace(breakage.old, breakage.new)
        (copy / breakage.file).write_text(broken, encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        result = subprocess.run(
            [*command, *breakage.tests.split()],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
        )
    if result.returncode == 0:
        return "its tests stayed green"
    if result.returncode != TESTS_FAILED:
        return f"its tests did not run: {(result.stdout + result.stderr).strip()[-300:]}"
    return ""


def main(names: list[str]) -> int:
    """Check the named breakages (all by default), two at a time."""
    chosen = [b for b in BREAKAGES if not names or b.name in names]
    with ThreadPoolExecutor(max_workers=max(1, min(4, os.cpu_count() or 1))) as pool:
        failed = 0
        for breakage, problem in zip(chosen, pool.map(check, chosen), strict=True):
            print(f"  {'NOT NOTICED' if problem else 'noticed':13}{breakage.name}", flush=True)
            if problem:
                failed += 1
                print(f"    {problem}")
    print(f"{len(chosen) - failed} of {len(chosen)} deliberate breakages were noticed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
