"""Render the whole book into ``_build/html``: every notebook executed, no warning, no dead link."""

import shutil
import subprocess
import sys
import time

from notebooks import ROOT, environment

KERNEL_NOISE = "[IPKernelApp] WARNING | Kernel is running over TCP"  # on loopback, once a kernel


def run(*command: str) -> int:
    """Run one step from the repository's root and return its exit code."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if KERNEL_NOISE not in line:
            print(line, end="", file=sys.stderr, flush=True)
    return process.wait()


def main() -> int:
    """Build from nothing, so that no stale output can hide a failure; then check every link."""
    started = time.monotonic()
    shutil.rmtree(ROOT / "_build", ignore_errors=True)
    build = ["jupyter-book", "build", ".", "-W", "-n", "--keep-going", "--all"]
    execute = ["python", "tools/execute_notebooks.py"]
    for step in (execute, build, ["python", "tools/check_links.py", "_build/html"]):
        if code := run(*step):
            shutil.rmtree(ROOT / "_build" / "html", ignore_errors=True)
            print(f"the book was not built: '{' '.join(step)}' failed", file=sys.stderr)
            return code
    seconds = time.monotonic() - started
    print(f"the book is in _build/html/index.html ({seconds:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
