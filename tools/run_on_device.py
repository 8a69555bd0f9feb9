"""Run every chapter as a plain script, then the GPU tests, and write times by device.

For a machine with torch and no Jupyter: the code cells of each notebook become one script, run in
its own process, with the device that ``device="auto"`` finds there. Needs torch and the package's
own dependencies. Usage::

    python tools/run_on_device.py [--out times.json] [--tests] [NOTEBOOK ...]
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from notebooks import ROOT, code_cells, environment

LIMIT = 600  # seconds a chapter; the book's own ceiling is 90 on one core


def device_name() -> str:
    """Name the device that ``device="auto"`` selects on this machine."""
    code = (
        "import torch; from crossattn.runtime import select_device as s; d = s();"
        "print(torch.cuda.get_device_name(d) if d.type == 'cuda' else d.type)"
    )
    return run([sys.executable, "-c", code])[1].strip().splitlines()[-1]


def run(command: list[str], **options) -> tuple[int, str]:
    """Run a command from the root, the package on its path; return exit code and output."""
    try:
        done = subprocess.run(
            command,
            env=environment(ROOT, MPLBACKEND="Agg"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            **options,
        )
    except subprocess.TimeoutExpired:
        return 124, f"longer than {LIMIT} s"
    return done.returncode, done.stdout


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for, print a line a chapter, write the table; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, help="JSON file for the times")
    parser.add_argument("--tests", action="store_true", help="also run the tests marked gpu")
    args = parser.parse_args(arguments)
    if absent := [str(path) for path in args.notebooks if not path.is_file()]:
        parser.error(f"there is no {', '.join(absent)}")
    notebooks = args.notebooks or sorted(ROOT.glob("book/*/[0-9]*.ipynb"))
    record = {"device": device_name(), "machine": platform.machine(), "chapters": {}}
    print(f"device: {record['device']}", flush=True)
    failed = 0
    for notebook in notebooks:
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / f"{notebook.stem}.py"
            script.write_text("\n\n".join(code_cells(notebook).values()) + "\n", encoding="utf-8")
            started = time.monotonic()
            code, output = run([sys.executable, str(script)], cwd=folder)
            seconds = round(time.monotonic() - started, 1)
        record["chapters"][notebook.stem] = {"passed": code == 0, "seconds": seconds}
        print(
            f"{'passed' if code == 0 else 'FAILED':7}{seconds:7.1f} s  {notebook.stem}", flush=True
        )
        if code:
            failed += 1
            print(output[-1500:], flush=True)
    if args.tests:
        code, output = run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"], cwd=ROOT)
        failed += code != 0
        record["gpu tests"] = output.strip().splitlines()[-1]
        print(output[-1500:] if code else record["gpu tests"], flush=True)
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
