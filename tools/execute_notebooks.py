"""Execute notebooks by nbval, one per core, and keep them for the build of the book.

The cache's place names the state of the package, so a notebook that is in it has passed as it is
and is not executed again. This file is also the plugin of pytest that keeps what nbval executes.
Usage: ``python tools/execute_notebooks.py [NOTEBOOK ...]``; by default the chapters.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from notebooks import ROOT, chapters, environment

sys.path.insert(0, str(ROOT / "book" / "_ext"))
from offline import cache_path

FOLDER = "KEEP_EXECUTED_NOTEBOOKS_IN"  # environment variable: the plugin is idle without it
NBVAL = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
PYTEST = ["-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "--timeout=0"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Keep the outputs of a cell that passes, and the notebook after its last one."""
    if not (folder := os.environ.get(FOLDER)):
        return (yield)
    started, client = time.monotonic(), item.parent.kernel.kc
    if item.cell_num == 0:  # without history a semicolon at the end would not hide a result
        execute = client.execute
        client.execute = lambda *code, **how: execute(*code, **how | {"store_history": True})
    result = yield
    item.cell.outputs, item.cell.execution_count = item.test_outputs, item.cell_num + 1
    notebook = item.parent.nb
    seconds = notebook.metadata.get("execution_seconds", 0.0)
    notebook.metadata.execution_seconds = seconds + time.monotonic() - started
    if all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code"):
        nbformat.write(notebook, Path(folder, kept_name(item.path)))
    return result


def kept_name(path: Path) -> str:
    """Name one notebook among all."""
    return str(path.resolve()).replace(os.sep, "+")


def is_cached(cache, path: Path) -> bool:
    """Tell whether the cache holds this notebook, executed."""
    try:
        cache.match_cache_notebook(nbformat.read(path, as_version=4))
    except KeyError:
        return False
    return True


def execute(cache, paths: list[Path]) -> int:
    """Execute notebooks, each in its folder; cache those that pass; return pytest's exit code."""
    with TemporaryDirectory() as folder:
        # notebooks run side by side, each on one thread
        variables = environment(ROOT / "tools", OMP_NUM_THREADS="1") | {FOLDER: folder}
        workers = str(min(os.cpu_count() or 1, len(paths)))
        command = [sys.executable, *PYTEST, *NBVAL, "-p", "execute_notebooks", "-n", workers]
        command += ["--dist", "loadfile", *map(str, paths)]
        code = subprocess.run(command, cwd=ROOT, env=variables).returncode
        for path in paths:
            if (kept := Path(folder, kept_name(path))).exists():
                notebook = nbformat.read(kept, as_version=4)
                seconds = notebook.metadata.pop("execution_seconds")
                print(f"{seconds:6.1f} s  {path.name}")
                bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    return code


def main(paths: list[Path]) -> int:
    """Execute what the cache does not hold yet."""
    cache = get_cache(cache_path(ROOT))
    waiting = [path for path in paths if not is_cached(cache, path)]
    print(f"{len(paths) - len(waiting)} of {len(paths)} notebooks have passed in this state")
    return execute(cache, waiting) if waiting else 0


if __name__ == "__main__":
    sys.exit(main([Path(name).resolve() for name in sys.argv[1:]] or chapters()))
