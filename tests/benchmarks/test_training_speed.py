"""Windows a second of whole trainings, ours beside the peers, in one run on one thread.

Every model goes through the training that comes with it, over the same windows, batches of 32 and
one look at the same validation windows an epoch. Ours is ``train_cross_attention_model`` with all
it does: scaling, noise of the targets, clipping, the best weights kept. A peer has the loop of its
library: a ``DataLoader`` that cuts each window and stacks them, Adam, and the loss read at every
step; checkpoints on disk are left out, in its favour. Time-Series-Library gives its iTransformer
the calendar of hourly bars as four more tokens; what it does without them is shown beside it, and
so is its bare step (forward, loss, backward, update, batches at hand).
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
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


def peer(model, samples: list[tuple[np.ndarray, ...]], epochs: int) -> float:
    """Windows a second of a peer's whole training; the last 64 samples are for validation."""
    train = DataLoader(samples[:-64], batch_size=32, shuffle=True)
    val = DataLoader(samples[-64:], batch_size=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    started = time.perf_counter()
    for _ in range(epochs):
        losses = [_peer_step(model, optimizer, *batch) for batch in train]
        with torch.no_grad():
            losses += [F.mse_loss(model(*inputs), target).item() for *inputs, target in val]
    assert np.isfinite(losses).all()
    return epochs * len(train.dataset) / (time.perf_counter() - started)


def peer_steps(model, samples: list[tuple[np.ndarray, ...]], n_steps: int) -> float:
    """Windows a second of a peer's median step, on batches at hand."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batch = next(iter(DataLoader(samples, batch_size=32)))
    times = []
    for _ in range(n_steps):
        started = time.perf_counter()
        _peer_step(model, optimizer, *batch)
        times.append(time.perf_counter() - started)
    return 32 / float(np.median(times))


def calendar(times: pd.DatetimeIndex) -> np.ndarray:
    """Hour, weekday, day of the month and of the year, in [-.5, .5]: what the library adds."""
    parts = (
        times.hour / 23,
        times.day_of_week / 6,
        (times.day - 1) / 30,
        (times.day_of_year - 1) / 365,
    )
    return np.stack(parts, -1).astype(np.float32) - 0.5


def _peer_step(model, optimizer, *batch) -> float:
    *inputs, target = batch
    optimizer.zero_grad()
    loss = F.mse_loss(model(*inputs), target)
    loss.backward()
    optimizer.step()
    return loss.item()


def test_training_windows_a_second(data):
    X, y = np.nan_to_num(data[:4064].X), data[:4064].y.astype(np.float32)  # cut as they are read
    hourly = peer(HourlyStack(7, WIDTH, HEADS, 2), list(zip(X[:160], y, strict=False)), 1)

    first = data.timestamps[0] - pd.Timedelta(hours=T - 1)
    marks = calendar(pd.date_range(first, periods=len(X) + T - 1, freq="h"))
    returns = np.ascontiguousarray(X[..., 0]).transpose(0, 2, 1)  # (n, T, N)
    plain = [(returns[k], y[k : k + 1]) for k in range(len(X))]
    dated = [(returns[k], marks[k : k + T], y[k : k + 1]) for k in range(len(X))]
    alone = data.select(features=["log_return"])  # the one channel that the peer is given
    rates = []
    for _ in range(5):  # side by side, since a machine's speed drifts
        mine = ours(alone, 4000, 2, preset="inverted", n_layers=2)
        rates.append([peer(_variates(), dated, 2), peer(_variates(), plain, 2), mine])
    itransformer, undated, inverted = np.median(rates, axis=0)
    lag = ours(data, 4000, 3, preset="lag", n_layers=1)

    rows = {
        "hourly stack": hourly,
        "iTransformer": itransformer,
        "iTransformer, no calendar": undated,
        "lag": lag,
        "inverted": inverted,
    }
    for name, rate in rows.items():
        print(f"{name:26}{rate:10.0f} windows/s  {rate / hourly:8.1f} x hourly stack")
    ratios = [mine / theirs for theirs, _, mine in rates]
    print("inverted / iTransformer, five times:", *(f"{ratio:.2f}" for ratio in sorted(ratios)))
    print("without the calendar:", *(f"{mine / theirs:.2f}" for _, theirs, mine in rates))
    print(f"its bare step, dated: {peer_steps(_variates(), dated, 100):.0f} windows/s")
    assert lag >= 40 * hourly
    assert inverted >= 80 * hourly
    assert np.median(ratios) >= 1.2


def _variates() -> ITransformer:
    return ITransformer(T, 1, WIDTH, HEADS, 2, 2 * WIDTH)
