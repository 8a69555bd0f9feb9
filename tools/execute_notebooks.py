"""Execute the chapters side by side, one per core, into the cache that the build of the book reads.

The build executes notebooks one after the other; done here first, it finds them executed. A chapter
that fails is left to the build, which executes it again and reports the error.
Usage: ``python tools/execute_notebooks.py``.
"""

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from notebooks import ROOT, chapters

sys.path.insert(0, str(ROOT / "book" / "_ext"))
from offline import cache_path


def execute(path: Path, timeout: int) -> tuple[nbformat.NotebookNode, float, str]:
    """Execute one notebook in its folder; return it, its seconds, and what failed or ""."""
    os.environ["OMP_NUM_THREADS"] = "1"
    notebook = nbformat.read(path, as_version=4)
    result = single_nb_execution(
        notebook, cwd=str(path.parent), timeout=timeout, allow_errors=False
    )
    return notebook, result.time, type(result.err).__name__ if result.err else ""


def is_cached(cache, path: Path) -> bool:
    """Tell whether the cache holds this notebook, executed."""
    try:
        cache.match_cache_notebook(nbformat.read(path, as_version=4))
    except KeyError:
        return False
    return True


def main() -> None:
    """Execute what the cache does not hold yet; one line a chapter."""
    configuration = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    timeout = configuration["execute"]["timeout"]
    cache = get_cache(cache_path(ROOT))
    waiting = [path for path in chapters() if not is_cached(cache, path)]
    started = time.monotonic()
    with ProcessPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        runs = {pool.submit(execute, path, timeout): path for path in waiting}
        for run in as_completed(runs):
            path = runs[run]
            notebook, seconds, failure = run.result()
            print(f"{seconds:6.1f} s  {path.relative_to(ROOT)}  {failure}", flush=True)
            if not failure:
                bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    print(f"{len(waiting)} chapters executed in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
