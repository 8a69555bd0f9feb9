"""The protocol against slow loops, and its models against what must be true of them."""

import numpy as np
import pandas as pd
import pytest

from crossattn.baselines.long_horizon import (
    InvertedTransformer,
    Linear,
    long_horizon_errors,
    repeat_last,
    training_mean,
)


def waves(rows, *periods):
    return pd.DataFrame({p: np.sin(2 * np.pi * np.arange(rows) / p) for p in periods})


def walk(rows=500):
    steps = np.random.default_rng(0).normal(size=(rows, 3))
    return pd.DataFrame(100 + steps.cumsum(axis=0))


def test_repeat_last_is_a_loop_over_every_test_window():
    prices, lookback, horizon = walk(), 12, 7
    values = prices.to_numpy()
    first, last = 350, 400
    scaled = (values - values[:first].mean(0)) / values[:first].std(0)
    errors = [
        (scaled[t : t + horizon] - scaled[t - 1]) ** 2 for t in range(last, 500 - horizon + 1)
    ]
    found = long_horizon_errors(
        prices, {"repeat": repeat_last}, lookback=lookback, horizons=[horizon]
    )
    assert found.loc[horizon, "repeat"] == pytest.approx(np.mean(errors), rel=1e-12)


def test_models_see_no_test_row():
    prices, seen = walk(), []

    def spy(train, val, lookback, horizon):
        seen.append((train.copy(), val.copy()))
        return repeat_last(train, val, lookback, horizon)

    changed = prices.copy()
    changed.iloc[400:] *= 3
    for table in (prices, changed):
        long_horizon_errors(table, {"spy": spy}, lookback=12, horizons=[7])
    for before, after in zip(*seen, strict=True):
        assert np.array_equal(before, after)


def test_linear_finds_a_linear_law_and_repeat_last_wins_on_a_random_walk():
    models = {"linear": Linear(1e-9), "repeat": repeat_last, "mean": training_mean}
    found = long_horizon_errors(waves(600, 12, 20), models, lookback=40, horizons=[10])
    assert found.loc[10, "linear"] < 1e-6 < found.loc[10, "repeat"]
    found = long_horizon_errors(walk(1500), models, lookback=40, horizons=[10])
    assert found.loc[10, "repeat"] < found.loc[10, "linear"]


def test_the_transformer_learns_a_wave_and_repeats_itself():
    prices = waves(800, 16, 25, 40) + 2
    make = InvertedTransformer(16, 2, 1, epochs=8, lr=3e-3, device="cpu")
    found = [
        long_horizon_errors(prices, {"a": make, "repeat": repeat_last}, lookback=50, horizons=[8])
        for _ in range(2)
    ]
    assert found[0].loc[8, "a"] < 0.2 * found[0].loc[8, "repeat"]
    assert found[0].equals(found[1])


def test_bad_input_is_named(refuse_input):
    def errors(prices, lookback=12, horizons=(7,), **options):
        options |= {"lookback": lookback, "horizons": horizons}
        return long_horizon_errors(prices, {"repeat": repeat_last}, **options)

    prices = walk()
    refuse_input(lambda: errors(prices.to_numpy()), "DataFrame of numbers")
    refuse_input(lambda: errors(prices.astype(str) + "x"), "DataFrame of numbers")
    refuse_input(lambda: errors(prices.replace(prices.iloc[3, 1], np.nan)), "without gaps")
    refuse_input(lambda: errors(prices[:60]), "60 rows are too few")
    refuse_input(lambda: errors(prices, lookback=0), "lookback and horizons must be positive")
    refuse_input(lambda: errors(prices, horizons=[0]), "lookback and horizons must be positive")
    refuse_input(lambda: errors(prices, horizons=[80]), "too few .* horizon 80")
    refuse_input(lambda: errors(prices, shares=(0.5, 0.5, 0.5)), "sum to 1")
    refuse_input(lambda: errors(prices, shares=(0.9, 0.1)), "three positive numbers")
