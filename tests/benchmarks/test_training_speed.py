"""Windows a second in training, ours beside the peers, in one run on one thread.

A step is what training does with a batch: gather it, forward, loss, backward, clip, update. Ours go
through ``train_cross_attention_model`` whole, so that scaling, validation and keeping the best
weights are in their time; the peers' batches are gathered from windows that were made before.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from benchmarks.peers import HourlyStack, ITransformer

from crossattn import (
    CrossAttentionMultiAsset,
    prepare_cross_attention_data,
    simulate_market,
    train_cross_attention_model,
)

pytestmark = pytest.mark.slow

N, T, WIDTH, HEADS = 20, 168, 64, 4


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data():
    market = simulate_market(n_assets=N, n_steps=6_000, seed=0)
    return prepare_cross_attention_data(market.frames, lookback=T, horizon=1)


def ours(data, n_windows: int, epochs: int, **options) -> float:
    """Windows a second of a whole training, one layer, equal width and heads."""
    train, val = data[:n_windows], data[n_windows : n_windows + 64]
    model = CrossAttentionMultiAsset(
        N,
        len(data.features),
        features=data.features,
        d_model=WIDTH,
        n_heads=HEADS,
        dropout=0.0,
        lookback=T,
        seed=0,
        **options,
    )
    started = time.perf_counter()
    train_cross_attention_model(
        model, train, val, epochs=epochs, batch_size=32, device="cpu", progress=False
    )
    return epochs * n_windows / (time.perf_counter() - started)


def peer(model, X: np.ndarray, y: np.ndarray, batches: int, batch: int = 32) -> float:
    """Windows a second of a peer's training steps."""
    X, y = torch.from_numpy(np.array(X)).nan_to_num(), torch.from_numpy(np.array(y)).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    times = []
    for _ in range(batches + 1):
        started = time.perf_counter()
        rows = torch.from_numpy(rng.integers(0, len(X), batch))
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(X[rows]), y[rows]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append(time.perf_counter() - started)
    return batch / float(np.median(times[1:]))


def test_training_windows_a_second(data):
    hourly = peer(HourlyStack(7, WIDTH, HEADS, 2), data[:256].X, data[:256].y, batches=3)
    returns = data[:2000].X[..., 0].transpose(0, 2, 1)  # (n, T, N): one variate an asset
    itransformer = peer(
        ITransformer(T, 1, WIDTH, HEADS, 2, 2 * WIDTH), returns, data[:2000].y[:, None], batches=60
    )
    lag = ours(data, 4000, 3, preset="lag", n_layers=1)
    alone = data.select(features=["log_return"])  # the one channel that the peer is given
    inverted = ours(alone, 4000, 2, preset="inverted", n_layers=2)
    rows = {"hourly stack": hourly, "iTransformer": itransformer, "lag": lag, "inverted": inverted}
    for name, rate in rows.items():
        print(f"{name:14}{rate:10.0f} windows/s  {rate / hourly:8.1f} x hourly stack")
    print(f"inverted / iTransformer: {inverted / itransformer:.2f}")
    assert lag >= 40 * hourly
    assert inverted >= 80 * hourly
    assert inverted >= 1.2 * itransformer
