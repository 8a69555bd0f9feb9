"""How processor time grows over assets, bars and channels, and use of the processor.

Each curve doubles one size and keeps the others; the exponent is the slope of log time on log size.
"""

import functools
import time

import numpy as np
import pytest
import torch
from benchmarks.measure import seconds
from benchmarks.peers import ITransformer
from benchmarks.test_training_speed import N, T
from torch.utils.flop_counter import FlopCounterMode

from crossattn import (
    CrossAttentionForecaster,
    CrossAttentionMultiAsset,
    backtest_weights,
    prepare_cross_attention_data,
    simulate_market,
)
from crossattn.attention.lagged import TemporalCrossAttention

pytestmark = pytest.mark.slow

BASE = {"assets": 10, "bars": 8_000, "channels": 3}
CHANNELS = ("log_return", "relative_volume", "volatility", "rsi", "momentum", "macd")


@pytest.fixture
def curve(keep):
    """Keep a curve of CPU-seconds by size and return its exponent."""

    def add(name: str, over: str, taken: dict[int, float], fixed: str) -> float:
        exponent = float(np.polyfit(np.log(list(taken)), np.log(list(taken.values())), 1)[0])
        figures = {"over": over, "fixed": fixed, "sizes": list(taken), "exponent": exponent}
        keep("curves", f"{name}, by {over}", figures | {"seconds": list(taken.values())})
        return exponent

    return add


@functools.cache
def forecaster_seconds(assets: int, bars: int, channels: int) -> dict[str, float]:
    """CPU-seconds of each step from a market to tested leaders."""
    marks = [time.process_time()]

    def lap():
        marks.append(time.process_time())

    market = simulate_market("static", n_assets=assets, n_steps=bars, seed=0)
    lap()
    data = prepare_cross_attention_data(market.frames, 48, 1, features=CHANNELS[:channels])
    lap()
    train, val, test = data.split(0.7, 0.1)
    forecaster = CrossAttentionForecaster(varying=False, content=False).fit(train, val)
    lap()
    forecaster.predict(test)
    lap()
    forecaster.lead_lag(test)
    lap()
    steps = ("simulate_market", "prepare_cross_attention_data", "fit", "predict", "lead_lag")
    return dict(zip(steps, np.diff(marks).tolist(), strict=True))


@pytest.mark.parametrize(
    ("over", "sizes", "most"),
    [
        ("assets", (5, 10, 20, 40), 2.0),
        ("bars", (2_000, 4_000, 8_000, 16_000), 1.2),
        ("channels", (1, 2, 4, 6), 1.5),
    ],
)
def test_the_forecaster(curve, over, sizes, most):
    forecaster_seconds(5, 2_000, 1)  # imports and compilation
    taken = {size: forecaster_seconds(**(BASE | {over: size})) for size in sizes}
    fixed = ", ".join(f"{size:,} {name}" for name, size in BASE.items() if name != over)
    exponents = {
        step: curve(step, over, {size: row[step] for size, row in taken.items()}, fixed)
        for step in ("simulate_market", "prepare_cross_attention_data", "fit", "lead_lag")
    }
    assert exponents["fit"] < most and exponents["lead_lag"] < most, exponents


@pytest.mark.parametrize("over", ["assets", "bars"])
def test_layers_and_networks(curve, over):
    """One step forward and backward, a batch of 8 windows."""
    made, sizes = {}, (16, 32, 64, 128) if over == "assets" else (64, 128, 256, 512)
    for size in sizes:
        n, t = (size, 64) if over == "assets" else (16, size)
        x = torch.randn(8, n, t, 32)
        layer = TemporalCrossAttention(32, 4, 24, 0.0, n_assets=n)
        made["lag attention, last step", size] = lambda layer=layer, x=x: (
            layer(x[:, :, -1:], x, return_attention=False)[0].square().mean().backward()
        )
        for preset in ("inverted", "encoder"):
            if preset == "encoder" and size == sizes[-1]:
                continue
            options = {"preset": preset, "lookback": t, "d_model": 32, "dropout": 0.0, "seed": 0}
            model = CrossAttentionMultiAsset(n, 7, **options)
            window = torch.randn(8, n, t, 7)
            made[preset, size] = lambda model=model, window=window: (
                model(window).square().mean().backward()
            )
    taken = seconds(made, 3)
    fixed = "64 bars" if over == "assets" else "16 assets"
    for name in dict.fromkeys(name for name, _ in made):
        exponent = curve(name, over, {s: t for (n, s), t in taken.items() if n == name}, fixed)
        assert exponent < 2.2, name


@pytest.mark.parametrize("over", ["assets", "bars"])
def test_the_engine(curve, over):
    rng, calls = np.random.default_rng(0), {}
    for size in (20, 40, 80, 160) if over == "assets" else (20_000, 40_000, 80_000, 160_000):
        n, t = (size, 20_000) if over == "assets" else (20, size)
        market = simulate_market("null", n_assets=n, n_steps=t, seed=0)
        closes = market.panel["close"]
        weights = closes[::24] * 0 + rng.dirichlet(np.ones(n), len(closes[::24]))
        calls[size] = lambda w=weights, c=closes: backtest_weights(w, c).equity
    fixed = "20,000 bars" if over == "assets" else "20 assets"
    assert curve("backtest_weights", over, seconds(calls, 5), fixed) < 1.3


def test_simulation_beside_a_loop_over_bars(compared):
    """The obvious simulator: the same recursion, bar by bar; it makes no volumes and no bars."""
    n, t = 10, 20_000
    market = simulate_market("static", n_assets=n, n_steps=t, seed=0)
    place = {symbol: k for k, symbol in enumerate(market.symbols)}
    edges = [
        (place[e.leader], place[e.follower], e.lag, e.strength) for e in market.edges.itertuples()
    ]
    shocks = market.returns.copy()
    shocks[1:] -= market.oracle[:-1]

    def loop():
        returns, oracle = np.zeros((t, n)), np.zeros((t, n))
        for row in range(t):
            returns[row] = shocks[row] + (oracle[row - 1] if row else 0)
            for leader, follower, lag, strength in edges:
                if row - lag + 1 >= 0:
                    oracle[row, follower] += strength * returns[row - lag + 1, leader]
        return returns

    np.testing.assert_allclose(loop(), market.returns, atol=1e-12)
    make = functools.partial(simulate_market, "static", n_assets=n, n_steps=t, seed=0)
    taken = seconds({"ours": make, "theirs": loop}, 3)
    name = "simulated bars, 10 assets x 20,000"
    compared(name, **taken, beside="a loop over bars, returns alone")


def test_forecasts_beside_itransformer(compared):
    """Inference of equal networks: 20 assets, 168 bars, width 64, two layers, batches of 32."""
    options = {"preset": "inverted", "lookback": T, "d_model": 64, "n_layers": 2}
    model = CrossAttentionMultiAsset(N, 1, features=["log_return"], **options, seed=0).eval()
    peer, x = ITransformer(T, 1).eval(), torch.randn(32, N, T, 1)
    with torch.inference_mode():
        taken = seconds({"ours": lambda: model(x), "theirs": lambda: peer(x[..., 0].mT)}, 40)
    compared("forecasts of 32 windows, inverted", **taken, beside="iTransformer, no calendar")


def test_use_of_the_processor_by_the_encoder(keep):
    """Floating-point operations a second of a training step over those of a matrix product."""
    n, t, width = 50, 168, 128
    options = {"preset": "encoder", "lookback": t, "d_model": width, "dropout": 0.0, "seed": 0}
    model, x = CrossAttentionMultiAsset(n, 7, **options), torch.randn(1, n, t, 7)

    def step():
        model(x).square().mean().backward()

    with FlopCounterMode(display=False) as counter:
        step()
    a, b = torch.randn(2, 1024, 1024)
    big = torch.randn(64_000_000)
    taken = seconds({"step": step, "product": lambda: a @ b, "copy": lambda: big.clone()}, 3)
    flops = counter.get_total_flops()
    peak, bandwidth = 2 * 1024**3 / taken["product"], 2 * big.nbytes / taken["copy"]
    figures = {"flops": flops, "seconds": taken["step"], "peak": peak, "bandwidth": bandwidth}
    keep("utilisation", f"encoder, N={n}, T={t}, d={width}", figures)
    assert flops / taken["step"] < 1.1 * peak
