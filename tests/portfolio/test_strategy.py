"""CrossAttentionBacktest: what is decided when, what it earns, and what it pays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crossattn import CrossAttentionBacktest, prepare_cross_attention_data
from crossattn.errors import InvalidInputError

N, T, F = 3, 6, 2


class Says:
    """A model that says what it was told to, whatever it is shown."""

    def __init__(self, table, output_type=None):
        self.table = np.asarray(table, dtype=float)
        if output_type:
            self.output_type = output_type

    def predict(self, X):
        return self.table[np.round(X[:, 0, -1, 1]).astype(int)]


def windows(n=60, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(0, 0.01, (n, N, T, F)).astype(np.float32)
    X[:, :, :, 1] = np.arange(n)[:, None, None]  # the row's number, so that a model knows its row
    returns = rng.normal(0, 0.02, (n, N))
    return X, returns, pd.date_range("2024-01-01", periods=n, freq="h", tz="UTC")


def test_a_row_decides_then_pays_then_earns_the_next_bar():
    X, returns, times = windows()
    weights = np.random.default_rng(1).dirichlet(np.ones(N), len(X))
    backtest = CrossAttentionBacktest(Says(weights, "portfolio"), 1000.0, 0.01, 7)
    results = backtest.run(X, returns, times)
    assert list(results.columns) == [
        "timestamp",
        "capital",
        "return",
        "cost",
        "turnover",
        "positions",
        "weights",
    ]
    capital, held = 1000.0, np.zeros(N)
    for row in range(len(X)):
        cost = 0.0
        if row % 7 == 0:
            base = capital
            for _ in range(100):
                base = capital - 0.01 * np.abs(weights[row] * base - held * capital).sum()
            cost, held = capital - base, weights[row]
        earned = (1 - cost / capital) * (1 + held @ returns[row])
        line = results.iloc[row]
        assert line["return"] == pytest.approx(earned - 1, rel=1e-10), f"row {row}"
        assert line["cost"] == pytest.approx(cost, rel=1e-10, abs=1e-12)
        np.testing.assert_allclose(line["weights"], held, rtol=1e-10)
        held = held * (1 + returns[row]) / (1 + held @ returns[row])
        capital *= earned
        assert line["capital"] == pytest.approx(capital, rel=1e-10)
    assert (results["timestamp"] == times).all()


def test_late_returns_change_nothing_earlier():
    X, returns, times = windows()
    model = Says(np.random.default_rng(1).normal(0, 0.01, (len(X), N)))
    backtest = CrossAttentionBacktest(model, rebalance_freq=5, allow_short=True)
    changed = returns.copy()
    changed[30:] = -changed[30:]
    before, after = backtest.run(X, returns, times), backtest.run(X, changed, times)
    pd.testing.assert_series_equal(before["capital"][:30], after["capital"][:30])
    np.testing.assert_array_equal(
        np.stack(before["weights"][:31]), np.stack(after["weights"][:31]), "decided before row 30"
    )


def test_a_faint_forecast_is_not_blown_up():
    X, returns, times = windows()
    faint = Says(np.full((len(X), N), 1e-6))
    weights = np.stack(CrossAttentionBacktest(faint).run(X, returns, times)["weights"])
    assert weights.sum(axis=1).max() < 0.001
    loud = Says(np.full((len(X), N), 0.5))
    weights = np.stack(CrossAttentionBacktest(loud, 1.0, 0.0).run(X, returns, times)["weights"])
    np.testing.assert_allclose(weights[::24].sum(axis=1), 1.0, rtol=1e-9)


def test_a_forecast_over_a_longer_horizon_is_measured_in_its_own_risk():
    X, returns, times = windows()
    model = Says(np.full((len(X), N), 1e-3))
    short = CrossAttentionBacktest(model, rebalance_freq=1).run(X, returns, times)
    model.horizon = 4
    long = CrossAttentionBacktest(model, rebalance_freq=1).run(X, returns, times)
    np.testing.assert_allclose(2 * long["weights"].iloc[40], short["weights"].iloc[40], rtol=1e-9)


def test_overlapping_forecasts_are_held_as_sleeves():
    X, returns, times = windows()
    model = Says(np.random.default_rng(2).normal(0, 0.05, (len(X), N)))
    model.horizon = 4
    options = {"rebalance_freq": 1, "allow_short": True, "transaction_cost": 0.0}
    each = np.stack(CrossAttentionBacktest(model, **options).run(X, returns, times)["weights"])
    sleeves = CrossAttentionBacktest(model, stagger=True, **options)
    held = np.stack(sleeves.run(X, returns, times)["weights"])
    np.testing.assert_allclose(held[20], each[17:21].mean(axis=0), rtol=1e-9, atol=1e-12)


def test_classes_hold_what_they_lean_to():
    X, returns, times = windows()
    logits = np.zeros((len(X), N, 3))
    logits[:, 0, 2], logits[:, 1, 0] = 3.0, 3.0
    options = {"rebalance_freq": 60, "transaction_cost": 0.0, "max_position": 0.4}
    long = CrossAttentionBacktest(Says(logits), **options).run(X, returns, times)
    np.testing.assert_allclose(long["weights"].iloc[0], [0.4, 0.0, 0.0])
    both = CrossAttentionBacktest(Says(logits), allow_short=True, **options)
    np.testing.assert_allclose(both.run(X, returns, times)["weights"].iloc[0], [0.4, -0.4, 0.0])


def test_quantiles_bring_their_own_risk():
    X, returns, times = windows()
    table = np.zeros((len(X), N, 5))
    table[..., 2] = [0.01, -0.01, 0.02]
    table[..., 0], table[..., 4] = table[..., 2] - 0.164485, table[..., 2] + 0.164485
    model = Says(table, "distribution")
    held = CrossAttentionBacktest(model, transaction_cost=0.0).run(X, returns, times)
    np.testing.assert_allclose(held["weights"].iloc[0], [0.1, 0.0, 0.2], rtol=1e-4)


def test_max_position_holds_after_normalisation():
    X, returns, times = windows()
    weights = np.tile([0.8, 0.1, 0.1], (len(X), 1))
    model = Says(weights, "portfolio")
    run = CrossAttentionBacktest(model, rebalance_freq=1, max_position=0.5).run(X, returns, times)
    held = np.stack(run["weights"])
    assert held.max() <= 0.5 + 1e-9
    np.testing.assert_allclose(held.sum(axis=1), 1.0, rtol=1e-9)
    with pytest.raises(InvalidInputError, match="max_position"):
        CrossAttentionBacktest(model, max_position=0.3).run(X, returns, times)


def test_metrics_are_net():
    X, returns, times = windows(200)
    model = Says(np.random.default_rng(3).dirichlet(np.ones(N), 200), "portfolio")
    dear = CrossAttentionBacktest(model, rebalance_freq=1, transaction_cost=0.01)
    free = CrossAttentionBacktest(model, rebalance_freq=1, transaction_cost=0.0)
    paid = dear.compute_metrics(dear.run(X, returns, times))
    gross = free.compute_metrics(free.run(X, returns, times))
    assert paid["sharpe_ratio"] < gross["sharpe_ratio"] - 1
    assert paid["total_costs"] > 0 == gross["total_costs"]
    assert paid["periods_per_year"] == 8760
    wealth = dear.run(X, returns, times)["capital"].iloc[-1] / 100_000
    assert paid["total_return"] == pytest.approx(wealth - 1, rel=1e-9)


def test_an_asset_without_a_return_is_neither_traded_nor_moved():
    X, returns, times = windows()
    returns[:, 1] = np.nan
    returns[10:20, 2] = np.nan
    weights = np.full((len(X), N), 1 / 3)
    backtest = CrossAttentionBacktest(Says(weights, "portfolio"), rebalance_freq=5)
    results = backtest.run(X, returns, times)
    held = np.stack(results["positions"])
    assert (held[:, 1] == 0).all()
    assert (np.diff(held[10:20, 2]) == 0).all()
    assert results["capital"].notna().all()


def test_data_brings_its_own_returns_and_names(make_frames):
    data = prepare_cross_attention_data(make_frames(200, N), lookback=8, horizon=2)

    class Model:
        symbols = tuple(reversed(data.symbols))

        def predict(self, shown):
            assert tuple(shown.symbols) == self.symbols, "data comes in the model's order"
            rank = {symbol: k / 1000 for k, symbol in enumerate(sorted(shown.symbols))}
            return np.tile([rank[symbol] for symbol in shown.symbols], (len(shown), 1))

    backtest = CrossAttentionBacktest(Model(), rebalance_freq=10, transaction_cost=0.0)
    by_data = backtest.run(data)
    by_hand = backtest.run(data, data.bar_returns, data.timestamps)
    pd.testing.assert_series_equal(by_data["capital"], by_hand["capital"])
    first = by_data["weights"].iloc[0]
    assert first[0] == 0 < first[1] < first[2], "weights are in the order of the data"
    assert list(backtest.result_.positions.columns) == list(data.symbols)
    assert set(backtest.result_.trades["symbol"]) <= set(data.symbols)


def test_torch_models_trade(make_frames):
    torch = pytest.importorskip("torch")
    from crossattn import CrossAttentionMultiAsset

    torch.manual_seed(0)
    data = prepare_cross_attention_data(make_frames(160, N), lookback=8, horizon=1)
    for kind in ("regression", "classification", "portfolio"):
        model = CrossAttentionMultiAsset(
            N, len(data.features), d_model=8, n_heads=2, n_layers=1, output_type=kind
        )
        backtest = CrossAttentionBacktest(model, rebalance_freq=4)
        results = backtest.run(data.X, data.bar_returns, data.timestamps)
        assert len(results) == len(data)
        assert np.isfinite(results["return"]).all(), kind


def test_any_torch_module_trades():
    torch = pytest.importorskip("torch")

    class Newest(torch.nn.Module):
        output_type = "portfolio"

        def forward(self, x):
            return x[:, :, -1, 0].softmax(dim=1)

    X, returns, times = windows()
    results = CrossAttentionBacktest(Newest(), rebalance_freq=3).run(X, returns, times)
    expected = np.exp(X[3, :, -1, 0]) / np.exp(X[3, :, -1, 0]).sum()
    np.testing.assert_allclose(results["weights"].iloc[3], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": object()}, "model"),
        ({"rebalance_freq": 0}, "rebalance_freq"),
        ({"rebalance_freq": 2.5}, "rebalance_freq"),
        ({"max_position": 0}, "max_position"),
        ({"transaction_cost": -1}, "transaction_cost"),
        ({"initial_capital": -5}, "initial_capital"),
        ({"returns": np.zeros((60, N + 1))}, "predict shape"),
        ({"returns": np.zeros((59, N))}, "one length"),
        ({"returns": np.zeros(60)}, "shape"),
        ({"returns": np.full((60, N), np.inf)}, "inf"),
        ({"returns": np.full((60, N), -1.0)}, "above -1"),
        ({"returns": None}, "returns"),
        (
            {"timestamps": pd.date_range("2024-01-01", periods=60, freq="h")},
            "timestamps must have UTC times",
        ),
        ({"timestamps": windows()[2][::-1]}, "timestamps must be sorted"),
        ({"timestamps": windows()[2][[0] * 60]}, "timestamps must have unique"),
        ({"model": Says(np.zeros((60, N)), "portrait")}, "output_type"),
        ({"model": Says(np.full((60, N), np.inf))}, "predictions"),
    ],
)
def test_bad_input_is_refused_by_name(change, words):
    X, returns, times = windows()
    call = {"returns": returns, "timestamps": times}
    build = {"model": Says(np.zeros((60, N)))}
    for name, value in change.items():
        (call if name in call else build)[name] = value
    with pytest.raises(InvalidInputError, match=words):
        CrossAttentionBacktest(**build).run(X, **call)


def test_a_move_across_a_missing_bar_is_earned():
    """Up a fifth while no bar was there: the account of a data set holds it, and sells it."""
    times = pd.date_range("2024-01-01", periods=12, freq="h", tz="UTC", name="time")
    closes = {"A": np.r_[np.full(6, 100.0), np.full(6, 120.0)], "B": np.full(12, 50.0)}
    frames = {
        symbol: pd.DataFrame(
            dict.fromkeys(("open", "high", "low", "close"), values) | {"volume": 1.0}, times
        )
        for symbol, values in closes.items()
    }
    frames["A"] = frames["A"].drop(times[5:7])
    data = prepare_cross_attention_data(frames, lookback=1, horizon=1, features=["log_return"])
    hold = CrossAttentionBacktest(
        lambda windows: np.tile([0.5, 0.0], (len(windows), 1)),
        transaction_cost=0.0,
        rebalance_freq=100,
    )
    hold.model.output_type = "portfolio"
    results = hold.run(data)
    assert results["capital"].iloc[-1] == pytest.approx(110_000)
    assert (results["capital"].iloc[:5] == 100_000).all()
    given = hold.run(data, data.bar_returns, data.timestamps)
    assert given["capital"].iloc[-1] == 100_000, "returns alone cannot know of it"
