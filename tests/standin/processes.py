"""What the tests run in other processes: work to be killed, writers that compete."""

import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pandas as pd


def context():
    """Return a start method whose children are forked from a small, clean, warmed-up process."""
    chosen = multiprocessing.get_context("forkserver")
    modules = ["standin.processes", "crossattn.sources.bybit", "crossattn.cli", "tqdm.auto"]
    chosen.set_forkserver_preload(modules)
    return chosen


def fetch(words: list[str]) -> None:
    """Run ``crossattn fetch`` in this process and exit with its code."""
    from crossattn.cli import fetch, main
    from crossattn.sources._client import FetchLimits

    fetch.LIMITS = FetchLimits(first_wait_s=0.01, longest_wait_s=0.04, spacing_s=0.0)
    os._exit(main(["fetch", *words]))


def kill_until_done(work, *, seed: int, kills: int, longest: float) -> int:
    """Run ``work()`` in a child that is killed and started again until it ends; count the kills."""
    rng, fork, landed = random.Random(seed), multiprocessing.get_context("fork"), 0
    while True:
        child = fork.Process(target=work)
        child.start()
        if landed < kills:
            time.sleep(rng.uniform(0.05, longest))
            if child.is_alive():
                os.kill(child.pid, signal.SIGKILL)
                landed += 1
        child.join(300)
        if child.exitcode == 0:
            return landed
        assert child.exitcode == -signal.SIGKILL


def table_of(slots: np.ndarray):
    """Return the one true table of some slots: every value follows from its slot."""
    times = pd.DatetimeIndex(slots.astype("M8[ms]"), tz="UTC")
    return pd.DataFrame({"value": slots * 0.5, "other": slots + 7.0}, index=times)


def write_rounds(directory: str, writer: int, rounds: int, barrier) -> None:
    """Merge a writer's share, in three parts, into the file of each round, all writers at once."""
    from crossattn.sources._cache import BarCache

    cache = BarCache(directory)
    for number in range(rounds):
        rng = np.random.default_rng([writer, number])
        mine = np.arange(writer, 1200, 4)
        shared = rng.choice(1200, 50, replace=False)
        slots = np.union1d(mine, shared)
        barrier.wait(60)
        path = cache.path("venue", "linear", "60", f"S{number}")
        for part in np.array_split(rng.permutation(slots), 3):
            cache.write(path, table_of(np.sort(part)), merge=True)
