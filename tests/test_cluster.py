"""Cells of the benchmark and folds on a cluster of two workers, one of them killed on the way."""

import os
import signal
from contextlib import contextmanager

import joblib
import numpy as np
import pandas as pd
import pytest
from standin.windows import simulated_windows

from crossattn.baselines.linear import VAR
from crossattn.leaderboard import Protocol, lead_lag_bench
from crossattn.portfolio.walkforward import walk_forward

SMALL = Protocol(n_assets=3, n_steps=900)
MEASURED = ["cpu_seconds", "peak_memory_mb"]


@contextmanager
def dask_cluster():
    distributed = pytest.importorskip("distributed")
    quiet = {"dashboard_address": None, "worker_dashboard_address": None}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **quiet) as cluster,
        distributed.Client(cluster),
    ):
        yield {"backend": "dask"}


@contextmanager
def ray_cluster():
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    quiet["_system_config"] = {"worker_niceness": 0}  # 15 by default: a busy machine starves them
    try:
        ray.init(num_cpus=2, object_store_memory=100_000_000, **quiet)
    except Exception as error:  # it gives its node 30 seconds, whatever else the machine does
        ray.shutdown()
        pytest.skip(f"Ray did not start: {error}")
    register_ray()
    try:
        again = {"max_restarts": 2, "max_task_retries": 2}  # -1 would restart what a pool ends
        yield {"backend": "ray", "ray_remote_args": again}
    finally:
        ray.shutdown()


@pytest.fixture(scope="module", params=[dask_cluster, ray_cluster])
def cluster(request):
    """Return joblib's options for two workers."""
    with request.param() as options:
        yield options


def test_a_benchmark_loses_nothing_with_a_killed_worker(cluster, tmp_path):
    killed = tmp_path / "killed"

    def fatal(seed):
        """Kill the process that makes the first model."""
        try:
            with killed.open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return VAR(3, penalty="lasso")
        os.kill(os.getpid(), signal.SIGKILL)

    bench = {"models": {"fatal": fatal, "ridge": lambda seed: VAR(3)}, "seeds": 2}
    bench |= {"scenarios": ["static", "null"], "protocol": SMALL}
    killed.touch()
    local = lead_lag_bench(**bench)
    killed.unlink()
    with joblib.parallel_config(**cluster):
        spread = lead_lag_bench(**bench, n_jobs=-1, out=tmp_path)
    assert int(killed.read_text()) != os.getpid()
    scores = spread.drop(columns=MEASURED), local.drop(columns=MEASURED)
    pd.testing.assert_frame_equal(*scores, check_exact=True)
    pd.testing.assert_frame_equal(lead_lag_bench(**bench, out=tmp_path), spread)


def test_walk_forward_on_a_cluster_is_bit_equal(cluster):
    data = simulated_windows(lookback=12, n_assets=3, n_steps=700)[1]
    sizes = {"train_size": 300, "test_size": 100}
    local = walk_forward(data, VAR, **sizes)
    with joblib.parallel_config(**cluster):
        spread = walk_forward(data, VAR, **sizes, n_jobs=-1)
    np.testing.assert_array_equal(spread.predictions, local.predictions)
    pd.testing.assert_frame_equal(spread.folds, local.folds)
