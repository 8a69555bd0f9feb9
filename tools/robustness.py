"""Re-execute chapters with every seed shifted, and record which of their asserts still hold.

Usage: ``python tools/robustness.py [CHAPTER...] [--seeds 10]``; a chapter is a number such as 05.
Writes ``_build/robustness.json``: by chapter the number of asserts, how many held at each shift,
and those that failed. At ten shifts or more the chapter's row is kept in ``book/robustness.json``
too, from which the page "Claims on fresh seeds" is made. The notebooks are not edited: the seeds
shift below them (``tools/seed_shift``), and their asserts record instead of raising.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import subprocess
import sys
import traceback
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from notebooks import ROOT, chapters, code_cells, environment

RECORD = "_record_claim"  # in the namespace of the cells: no name of theirs
STEP = 1000  # between the seeds of two shifts: chapters count their own seeds in ones
TIMEOUT = 3600
RESULT = ROOT / "_build" / "robustness.json"
KEPT = ROOT / "book" / "robustness.json"
SHIFTS_KEPT = 10  # a row made with fewer says too little to be printed


class Recorder(ast.NodeTransformer):
    """Make every assert of a cell record whether it holds, and go on."""

    def __init__(self, claims: dict[str, dict], cell: int):
        self.claims, self.cell = claims, cell

    def visit_Assert(self, node: ast.Assert) -> ast.Try:
        return self._recorded(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        call = node.value
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1].startswith(
            "assert_"
        ):
            return self._recorded(node)
        return self.generic_visit(node)

    def _recorded(self, node: ast.stmt) -> ast.Try:
        key = f"{self.cell}:{node.lineno}:{node.col_offset}"
        text = ast.unparse(node.test if isinstance(node, ast.Assert) else node)
        self.claims[key] = {"cell": self.cell, "assert": text, "times": 0, "failures": 0}
        frame = ast.parse(
            f"try:\n    pass\nexcept AssertionError:\n    {RECORD}({key!r}, False)\n"
            f"else:\n    {RECORD}({key!r}, True)"
        ).body[0]
        frame.body = [node]
        return ast.fix_missing_locations(ast.copy_location(frame, node))


def run_cells(path: Path) -> dict:
    """Execute a notebook's cells in this process; return its claims and the cells that raised."""
    claims: dict[str, dict] = {}
    raised: dict[int, str] = {}

    def record(key: str, held: bool) -> None:
        claims[key]["times"] += 1
        claims[key]["failures"] += not held

    namespace = sys.modules["__main__"].__dict__
    namespace |= {RECORD: record, "display": lambda *things: None}
    # all before the first is run: cells share this module's names and may change them
    trees = {k: Recorder(claims, k).visit(ast.parse(code)) for k, code in code_cells(path).items()}
    for k, tree in trees.items():
        try:
            exec(compile(tree, f"{path.name}, cell {k}", "exec"), namespace)
        except Exception as error:  # whatever a chapter raises is a result
            traceback.print_exc()
            raised[k] = f"{type(error).__name__}: {error}"
    return {"claims": claims, "raised": raised}


def code_digest(path: Path) -> str:
    """Return a digest of a notebook's code, by which a row is known to be older than it."""
    code = json.dumps(list(code_cells(path).values()))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def write_json(path: Path, results: dict) -> None:
    """Write results by chapter."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def execute(path: Path, shift: int) -> dict:
    """Execute a notebook in a process of its own whose seeds are shifted."""
    variables = environment(
        ROOT / "tools" / "seed_shift",
        SEED_SHIFT=str(shift * STEP),
        MPLBACKEND="Agg",
        OMP_NUM_THREADS="1",
    )
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(path)]
    done = subprocess.run(
        command, cwd=path.parent, env=variables, capture_output=True, text=True, timeout=TIMEOUT
    )
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        raise SystemExit(f"error: {path.name} at shift {shift}: {done.stderr[-2000:]}") from None


def summary(runs: list[dict]) -> dict:
    """Return what held at each shift, 1 first; asserts that no run reached do not count.

    An assert fails where it is false once, or where it was not reached since a cell raised.
    """
    reached = {key for run in runs for key, claim in run["claims"].items() if claim["times"]}
    failed: dict[tuple, list[int]] = defaultdict(list)  # by cell, text and place
    held = [len(reached)] * len(runs)
    for shift, run in enumerate(runs, 1):
        for key in reached:
            claim = run["claims"][key]
            if claim["failures"] or (not claim["times"] and run["raised"]):
                failed[claim["cell"], claim["assert"], key].append(shift)
                held[shift - 1] -= 1
        for cell, error in run["raised"].items():
            failed[int(cell), f"raises {error}", ""].append(shift)
    entries = [
        {"cell": cell, "assert": text, "shifts": shifts}
        for (cell, text, _), shifts in sorted(failed.items())
    ]
    return {"asserts": len(reached), "held": held, "failed": entries}


def study(paths: list[Path], n_shifts: int) -> dict[str, dict]:
    """Execute every notebook at every shift, one per core, and sum up."""
    results = {}
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        waiting = {
            path: [pool.submit(execute, path, shift) for shift in range(1, n_shifts + 1)]
            for path in paths
        }
        for path, runs in waiting.items():
            result = results[path.stem] = summary([run.result() for run in runs])
            share = sum(result["held"]) / max(1, result["asserts"] * n_shifts)
            print(f"{share:7.1%} of {result['asserts']:3} asserts  {path.stem}", flush=True)
            for entry in result["failed"]:
                print(f"         cell {entry['cell']}: {entry['assert']}  {entry['shifts']}")
    return results


def main() -> None:
    """Study the chapters asked for, all by default; write and print what held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="numbers such as 05 13; default: all")
    parser.add_argument("--seeds", type=int, default=10, help="number of shifts (default: 10)")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        output, sys.stdout = sys.stdout, sys.stderr  # what a chapter prints is not the result
        result = run_cells(args.worker)
        print(json.dumps(result), file=output)
        return
    if args.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {args.seeds}")
    numbers = {path.stem.split("_")[0]: path for path in chapters()}
    wanted = [number.zfill(2) for number in args.chapters] or list(numbers)
    unknown = sorted(set(wanted) - set(numbers))
    if unknown:
        parser.error(f"no chapter {unknown[0]!r}: there are {', '.join(numbers)}")
    digests = {numbers[number].stem: code_digest(numbers[number]) for number in wanted}
    results = study([numbers[number] for number in wanted], args.seeds)
    write_json(RESULT, results)
    print(f"wrote {RESULT.relative_to(ROOT)}")
    if args.seeds >= SHIFTS_KEPT:
        kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
        kept |= {name: {"code": digests[name], **row} for name, row in results.items()}
        write_json(KEPT, {path.stem: kept[path.stem] for path in chapters() if path.stem in kept})
        print(f"kept in {KEPT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
