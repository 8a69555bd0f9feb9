"""What ``crossattn train`` learns when nothing is said: the static market at 2 %, CPU seconds.

The whole command is timed, imports, reading and evidence included, on one thread. Its default
horizon is 24 bars: their true conditional mean is what known returns of the leaders still move, at
most a lag ahead. Seeds are not those on which the forecaster was tuned (101 to 128).
"""

import os
import sys

import numpy as np
import pytest
from benchmarks.measure import cpu_seconds, fidelity

from crossattn.data.files import write_bars
from crossattn.forecaster import CrossAttentionForecaster
from crossattn.simulate.market import simulate_market
from crossattn.windows.prepare import prepare_cross_attention_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SEEDS = (30_001, 30_002, 30_003)


def train_by_command(frames, folder) -> float:
    """Run ``crossattn train`` without a word on how, and return its CPU seconds."""
    write_bars(frames, folder / "bars")
    command = [sys.executable, "-m", "crossattn", "train", "--device", "cpu"]
    command += ["--data", str(folder / "bars"), "--run", str(folder / "run")]
    return cpu_seconds(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def mean_of_horizon(market, data):
    """Return the true conditional mean of the log return over the horizon, ``(n, N)``."""
    symbols, truth = list(data.symbols), np.zeros_like(market.returns)
    for edge in market.edges.itertuples():
        leader = market.returns[:, symbols.index(edge.leader)]
        kernel = np.zeros(edge.lag)  # of the returns 0, 1, ... bars before the newest
        kernel[max(0, edge.lag - data.horizon) :] = 1.0
        to_come = np.convolve(leader, kernel)[: len(truth)]
        truth[:, symbols.index(edge.follower)] += edge.strength * to_come
    return truth[data.ends]


def test_the_default_command_learns_the_static_market(tmp_path):
    fidelities, seconds = [], []
    for seed in SEEDS:
        market = simulate_market("static", predictability=0.02, seed=seed)
        seconds.append(train_by_command(market.frames, tmp_path / str(seed)))
        forecaster = CrossAttentionForecaster.load(tmp_path / str(seed) / "run")
        test = prepare_cross_attention_data(market.frames).split(train=0.6, val=0.1)[2]
        fidelities.append(fidelity(forecaster.predict(test), mean_of_horizon(market, test)))
    print(f"\nfidelity {np.round(fidelities, 4)}, CPU seconds {np.round(seconds, 1)}")
    assert np.mean(fidelities) >= 0.97
    assert np.mean(seconds) <= 20
