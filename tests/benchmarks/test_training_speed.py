"""Windows a second of whole trainings, ours beside the peers, in one run on one thread.

Every model goes through the training that comes with it, over the same windows, batches of 32 and
one look at the same validation windows an epoch. Ours is ``train_cross_attention_model`` with all
it does: scaling, noise of the targets, clipping, the best weights kept. A peer has the loop of its
library: a ``DataLoader`` that cuts each window and stacks them, Adam, and the loss read at every
step; checkpoints on disk are left out, in its favour. The bare step (forward, loss, backward,
update, batches at hand) is timed and shown beside it.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from benchmarks.peers import HourlyStack, ITransformer
from torch.utils.data import DataLoader

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


def peer(model, X: np.ndarray, y: np.ndarray, n_windows: int, epochs: int) -> float:
    """Windows a second of a peer's whole training."""
    pairs = [(X[k], y[k]) for k in range(n_windows + 64)]  # views: a window is cut when it is asked
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    started = time.perf_counter()
    train = DataLoader(pairs[:n_windows], batch_size=32, shuffle=True)
    val = DataLoader(pairs[n_windows:], batch_size=32)
    for _ in range(epochs):
        losses = [_peer_step(model, optimizer, windows, target) for windows, target in train]
        with torch.no_grad():
            losses += [F.mse_loss(model(windows), target).item() for windows, target in val]
    assert np.isfinite(losses).all()
    return epochs * n_windows / (time.perf_counter() - started)


def peer_steps(model, X: np.ndarray, y: np.ndarray, n_steps: int) -> float:
    """Windows a second of a peer's median step, on batches at hand."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    windows, target = torch.from_numpy(X[:32].copy()), torch.from_numpy(y[:32].copy())
    times = []
    for _ in range(n_steps):
        started = time.perf_counter()
        _peer_step(model, optimizer, windows, target)
        times.append(time.perf_counter() - started)
    return 32 / float(np.median(times))


def _peer_step(model, optimizer, windows, target) -> float:
    optimizer.zero_grad()
    loss = F.mse_loss(model(windows), target)
    loss.backward()
    optimizer.step()
    return loss.item()


def test_training_windows_a_second(data):
    X, y = np.nan_to_num(data[:4064].X), data[:4064].y.astype(np.float32)
    hourly = peer(HourlyStack(7, WIDTH, HEADS, 2), X, y, 96, 1)
    returns = np.ascontiguousarray(X[..., 0]).transpose(0, 2, 1)  # (n, T, N)
    alone = data.select(features=["log_return"])  # the one channel that the peer is given
    pairs = []
    for _ in range(5):  # side by side, since a machine's speed drifts
        variate = ITransformer(T, 1, WIDTH, HEADS, 2, 2 * WIDTH)
        theirs = peer(variate, returns, y[:, None], 4000, 2)
        pairs.append((theirs, ours(alone, 4000, 2, preset="inverted", n_layers=2)))
    itransformer, inverted = np.median(pairs, axis=0)
    ratios = [mine / theirs for theirs, mine in pairs]
    step = peer_steps(variate, returns, y[:, None], 100)
    lag = ours(data, 4000, 3, preset="lag", n_layers=1)
    rows = {"hourly stack": hourly, "iTransformer": itransformer, "lag": lag, "inverted": inverted}
    for name, rate in rows.items():
        print(f"{name:14}{rate:10.0f} windows/s  {rate / hourly:8.1f} x hourly stack")
    print("inverted / iTransformer, five pairs:", *(f"{ratio:.2f}" for ratio in sorted(ratios)))
    print(f"the peer's bare step: {step:.0f} windows/s, inverted / step: {inverted / step:.2f}")
    assert lag >= 40 * hourly
    assert inverted >= 80 * hourly
    assert np.median(ratios) >= 1.2
