"""Windows a second of whole trainings, ours beside the peers, in one run on one thread.

Every model goes through the training that comes with it, over the same windows, batches of 32 and
one look at the same validation windows an epoch. Ours is ``train_cross_attention_model`` with all
it does: scaling, noise of the targets, clipping, the best weights kept. A peer has the loop of its
library: a ``DataLoader`` that cuts each window and stacks them, Adam, and the loss read at every
step; checkpoints on disk are left out, in its favour. Time-Series-Library gives its iTransformer
the calendar of hourly bars as four more tokens; what it does without them is shown beside it.
"""

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
WINDOW = "training, a window of 20 assets and 168 bars, "


@pytest.fixture(scope="module")
def data():
    market = simulate_market(n_assets=N, n_steps=6_000, seed=0)
    return prepare_cross_attention_data(market.frames, lookback=T, horizon=1)


def ours(data, n_windows: int, epochs: int, **options) -> float:
    """Windows a CPU-second of a whole training, one layer, equal width and heads."""
    train, val = data[:n_windows], data[n_windows : n_windows + 64]
    size = {"d_model": WIDTH, "n_heads": HEADS, "lookback": T, "dropout": 0.0, "seed": 0}
    features = data.features
    model = CrossAttentionMultiAsset(N, len(features), features=features, **size, **options)
    started = time.process_time()
    train_cross_attention_model(
        model, train, val, epochs=epochs, batch_size=32, device="cpu", progress=False
    )
    return epochs * n_windows / (time.process_time() - started)


def peer(model, samples: list[tuple[np.ndarray, ...]], epochs: int) -> float:
    """Windows a second of a peer's whole training; the last 64 samples are for validation."""
    train = DataLoader(samples[:-64], batch_size=32, shuffle=True)
    val = DataLoader(samples[-64:], batch_size=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    started = time.process_time()
    for _ in range(epochs):
        losses = [_peer_step(model, optimizer, *batch) for batch in train]
        with torch.no_grad():
            losses += [F.mse_loss(model(*inputs), target).item() for *inputs, target in val]
    assert np.isfinite(losses).all()
    return epochs * len(train.dataset) / (time.process_time() - started)


def calendar(times: pd.DatetimeIndex) -> np.ndarray:
    """Hour, weekday, day of the month and of the year, in [-.5, .5]: what the library adds."""
    day, week = times.hour / 23, times.day_of_week / 6
    parts = day, week, (times.day - 1) / 30, (times.day_of_year - 1) / 365
    return np.stack(parts, -1).astype(np.float32) - 0.5


def _peer_step(model, optimizer, *batch) -> float:
    *inputs, target = batch
    optimizer.zero_grad()
    loss = F.mse_loss(model(*inputs), target)
    loss.backward()
    optimizer.step()
    return loss.item()


def test_inverted_beside_itransformer(data, compared):
    X, y = np.nan_to_num(data[:1064].X), data[:1064].y.astype(np.float32)  # cut as they are read
    first = data.timestamps[0] - pd.Timedelta(hours=T - 1)
    marks = calendar(pd.date_range(first, periods=len(X) + T - 1, freq="h"))
    returns = np.ascontiguousarray(X[..., 0]).transpose(0, 2, 1)  # (n, T, N)
    plain = [(returns[k], y[k : k + 1]) for k in range(len(X))]
    dated = [(returns[k], marks[k : k + T], y[k : k + 1]) for k in range(len(X))]
    alone = data.select(features=["log_return"])  # the one channel that the peer is given
    rates = []
    for _ in range(3):  # side by side, since a machine's speed drifts
        mine = ours(alone, 1000, 2, preset="inverted", n_layers=2)
        rates.append([peer(_variates(), dated, 2), peer(_variates(), plain, 2), mine])
    itransformer, undated, inverted = np.median(rates, axis=0)
    ratios = [
        compared(f"{WINDOW}inverted, beside {name}", 1 / inverted, 1 / rate, beside=name, asked=2)
        for name, rate in (("iTransformer", itransformer), ("iTransformer, no calendar", undated))
    ]
    assert ratios[0] >= 1.2


def test_presets_beside_the_hourly_stack(data, compared):
    X, y = np.nan_to_num(data[:160].X), data[:160].y.astype(np.float32)
    hourly = peer(HourlyStack(7, WIDTH, HEADS, 2), list(zip(X, y, strict=True)), 1)
    lag = ours(data, 4000, 3, preset="lag", n_layers=1)
    alone = data.select(features=["log_return"])
    inverted = ours(alone, 4000, 2, preset="inverted", n_layers=2)
    beside = {"beside": "hourly stack"}
    assert compared(f"{WINDOW}lag", 1 / lag, 1 / hourly, **beside, asked=3200) >= 40
    assert compared(f"{WINDOW}inverted", 1 / inverted, 1 / hourly, **beside, asked=770) >= 80


def _variates() -> ITransformer:
    return ITransformer(T, 1, WIDTH, HEADS, 2, 2 * WIDTH)
