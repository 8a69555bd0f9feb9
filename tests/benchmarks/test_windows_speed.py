"""Windows as views against windows cut one by one: time and memory, measured beside each other."""

import time
import tracemalloc

import numpy as np
import pytest
from benchmarks.measure import seconds

from crossattn import align_panel, create_multi_asset_features, prepare_cross_attention_data
from crossattn.windows.prepare import windows_of_features

LOOKBACK, HORIZON = 168, 24
NAMES = ["log_return", "relative_volume", "volatility", "rsi"]

pytestmark = pytest.mark.slow


def one_by_one(table, closes, ends):
    """The obvious loop: align, cut and copy each asset's rows for every window."""
    X, y = [], []
    symbols = list(closes)
    by_symbol = {symbol: table.xs(symbol, axis=1, level="symbol") for symbol in symbols}
    shared = closes.dropna().index
    for end in ends:
        sample, target = [], []
        for symbol in symbols:
            aligned, price = by_symbol[symbol].loc[shared], closes[symbol].loc[shared]
            sample.append(aligned.iloc[end - LOOKBACK + 1 : end + 1][NAMES].to_numpy())
            target.append(price.iloc[end + HORIZON] / price.iloc[end] - 1)
        X.append(np.stack(sample))
        y.append(target)
    return np.array(X), np.array(y)


def peak_megabytes(call):
    """What `call` allocates at its peak, beyond what was there before."""
    tracemalloc.start()
    try:
        kept = call()
        return tracemalloc.get_traced_memory()[1] / 1e6, kept
    finally:
        tracemalloc.stop()


def hourly_panel(make_frames, n_bars, n_assets):
    return align_panel(make_frames(n_bars, n_assets, seed=1))


def test_windows_are_three_thousand_times_faster_than_cutting_them(make_frames, compared):
    panel = hourly_panel(make_frames, 8_760, 5)
    table, closes = create_multi_asset_features(panel, NAMES), panel["close"]
    data = windows_of_features(table, closes, LOOKBACK, HORIZON, warm_up=24)

    sample = data.ends[:: len(data) // 150]
    start = time.process_time()
    X, y = one_by_one(table, closes, sample)
    loop = (time.process_time() - start) / len(sample) * len(data)
    chosen = sample - data.ends[0]
    np.testing.assert_array_equal(data.X[chosen], X.astype(np.float32))
    np.testing.assert_allclose(data.y[chosen], y, rtol=1e-9)

    views, whole = seconds(
        {
            "views": lambda: windows_of_features(table, closes, LOOKBACK, HORIZON, warm_up=24).X,
            "whole": lambda: prepare_cross_attention_data(panel, features=NAMES).X,
        }
    ).values()
    memory, _ = peak_megabytes(lambda: windows_of_features(table, closes, LOOKBACK, HORIZON).X)
    print(f"\n{memory:.1f} MB instead of {X.nbytes / len(sample) * len(data) / 1e6:.0f}", end="")
    beside = {"beside": "a loop that cuts and copies"}
    name = f"{len(data):,} windows of 5 assets"
    compared(f"{name}, features and checks included", whole, loop, **beside)
    assert compared(name, views, loop, **beside, asked=9700) >= 3_000
    assert memory < 20


@pytest.mark.parametrize(("years", "n_assets", "most"), [(1, 5, 20), (5, 50, 400)])
def test_from_bars_to_windows_takes_few_megabytes(make_frames, years, n_assets, most):
    panel = hourly_panel(make_frames, 8_760 * years, n_assets)
    memory, data = peak_megabytes(lambda: prepare_cross_attention_data(panel))
    held = sum(a.nbytes for a in (data.panel, data.targets, data.next_returns)) / 1e6
    print(f"\npeak {memory:.0f} MB from bars to windows, {held:.0f} MB held,", end=" ")
    print(f"{data.X.nbytes / 1e9:.1f} GB if copied")
    assert np.shares_memory(data.X, data.panel)
    assert memory < most
