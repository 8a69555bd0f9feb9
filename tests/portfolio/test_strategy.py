"""CrossAttentionBacktest: what is decided when, what it earns, and what it pays."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from standin.windows import coin_and_stock, flat_bars

from crossattn import CrossAttentionBacktest, CrossAttentionMultiAsset, prepare_cross_attention_data
from crossattn.errors import CrossAttentionWarning, InvalidInputError
from crossattn.portfolio import Limits

N, T, ROWS = 3, 6, 60


class Fixed:
    """A model with given predictions by row, whatever the features are."""

    def __init__(self, table, output_type=None, horizon=None):
        self.table = np.asarray(table, dtype=float)
        self.output_type, self.horizon = output_type, horizon

    def predict(self, X):
        return self.table[np.round(X[:, 0, -1, 1]).astype(int)]


def windows(n=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(0, 0.01, (n, N, T, 2)).astype(np.float32)
    X[:, :, :, 1] = np.arange(n)[:, None, None]  # the row's number, for Fixed
    returns = rng.normal(0, 0.02, (n, N))
    return X, returns, pd.date_range("2024-01-01", periods=n, freq="h", tz="UTC")


def weights_of(model, **options):
    """Weights after each row's trades, (n + 1, N)."""
    return CrossAttentionBacktest(model, **options).run(*windows()).attrs["weights"].to_numpy()


def with_an_end(**options):
    """Equal forecasts for three assets, of which A02 has no bar after the thirtieth."""
    moves = np.random.default_rng(0).normal(0, 0.01, (ROWS, N))
    closes = np.exp(moves.cumsum(axis=0))
    closes[30:, 2] = np.nan
    frames = flat_bars(closes, ["A00", "A01", "A02"])
    data = prepare_cross_attention_data(frames, T, 1, features=["log_return"])
    forecast = np.where(data.has_bar, 0.01, np.nan)
    backtest = CrossAttentionBacktest(lambda data: forecast, 1e3, 0.0, 1, **options)
    return data, backtest.run(data).attrs["weights"]


def test_an_asset_that_ends_is_named_and_its_delisting_frees_its_part():
    with pytest.warns(CrossAttentionWarning, match="A02 has no bar .* CrossAttentionBacktest"):
        data, held = with_an_end()
    assert held["A02"].iloc[-1] > 0.3
    _, freed = with_an_end(delistings={"A02": data.clock[29]})
    assert freed["A02"].iloc[-1] == 0 and freed.iloc[-2].sum() == pytest.approx(1.0)
    with pytest.raises(InvalidInputError, match="UTC"):
        CrossAttentionBacktest(lambda data: data, delistings={"A02": "2024-01-01"})


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_a_module_is_asked_in_its_own_precision_and_left_as_it_was(dtype):
    module = torch.nn.Sequential(torch.nn.Flatten(2), torch.nn.Linear(2 * T, 1), torch.nn.Flatten())
    module = module.to(getattr(torch, dtype)).train()
    assert np.isfinite(weights_of(module)).all() and module.training


def test_quantiles_may_be_an_array():
    table = np.sort(np.random.default_rng(0).normal(0, 0.01, (ROWS, N, 3)), axis=2)
    models = [Fixed(table, "distribution") for _ in range(2)]
    models[0].quantiles, models[1].quantiles = np.array([0.1, 0.5, 0.9]), (0.1, 0.5, 0.9)
    np.testing.assert_array_equal(*(weights_of(model) for model in models))


def test_a_row_is_marked_then_trades_then_earns_the_next_bar():
    X, returns, times = windows()
    weights = np.random.default_rng(1).dirichlet(np.ones(N), ROWS)
    backtest = CrossAttentionBacktest(Fixed(weights, "portfolio"), 1000.0, 0.01, 7)
    results = backtest.run(X, returns, times)
    assert list(results.columns) == ["timestamp", "capital", "return", "cost", "turnover"]
    assert results["timestamp"].tolist() == [*times, times[-1] + pd.Timedelta(hours=1)]
    capital, held = 1000.0, np.zeros(N)
    for row in range(ROWS + 1):
        before = capital
        if row:
            capital *= 1 + held @ returns[row - 1]
            held = held * (1 + returns[row - 1]) / (1 + held @ returns[row - 1])
        cost = 0.0
        if row % 7 == 0 and row < ROWS:
            base = capital
            for _ in range(100):
                base = capital - 0.01 * np.abs(weights[row] * base - held * capital).sum()
            cost, capital, held = capital - base, base, weights[row]
        line = results.iloc[row]
        assert line["capital"] == pytest.approx(capital, rel=1e-10), f"row {row}"
        assert line["return"] == pytest.approx(capital / before - 1, rel=1e-9, abs=1e-14)
        assert line["cost"] == pytest.approx(cost, rel=1e-10, abs=1e-12)
        np.testing.assert_allclose(results.attrs["weights"].iloc[row], held, rtol=1e-10)
    price = np.vstack([np.ones(N), np.cumprod(1 + returns, axis=0)])
    value = results.attrs["positions"].to_numpy() * price
    np.testing.assert_allclose(value.sum(axis=1), results["capital"], rtol=1e-10)
    np.testing.assert_array_equal(results["capital"], backtest.result_.equity)


def test_the_benchmark_gives_no_share_to_what_has_not_begun():
    X, returns, times = windows()
    returns[:20, 0] = np.nan  # listed after row 20
    returns[30:33, 1] = np.nan  # a gap: its target waits
    backtest = CrossAttentionBacktest(Fixed(np.zeros((ROWS, N))), rebalance_freq=10)
    backtest.run(X, returns, times)
    weights = backtest.benchmark_.weights
    np.testing.assert_allclose(weights.iloc[[0, 20]], [[0, 0.5, 0.5], [1 / 3] * 3], atol=2e-3)
    assert backtest.benchmark_.equity.index.equals(backtest.result_.equity.index)
    assert backtest.benchmark_.trades["time"].isin(times[::10]).all()


def test_frames_of_runs_can_be_joined():
    backtest = CrossAttentionBacktest(Fixed(np.full((ROWS, N), 0.1)))
    one, two = backtest.run(*windows()), backtest.run(*windows(seed=1))
    assert pd.concat([one, two]).shape == (2 * ROWS + 2, 5)
    assert pd.concat([one["capital"], one["return"]], axis=1).shape == (ROWS + 1, 2)
    assert len(one.merge(two, on="timestamp")) == ROWS + 1


def test_late_returns_change_nothing_earlier():
    X, returns, times = windows()
    model = Fixed(np.random.default_rng(1).normal(0, 0.01, (ROWS, N)))
    backtest = CrossAttentionBacktest(model, rebalance_freq=5, allow_short=True)
    changed = returns.copy()
    changed[30:] = -changed[30:]
    before, after = backtest.run(X, returns, times), backtest.run(X, changed, times)
    assert (before["capital"][:31] == after["capital"][:31]).all()
    assert (before.attrs["weights"][:31] == after.attrs["weights"][:31]).all(axis=None)
    assert (before["capital"][31:] != after["capital"][31:]).all()


def test_a_missing_forecast_changes_no_decision_of_others_within_limits():
    linear = {"invested": (1, 1.5, 1.5)}
    options = {"rebalance_freq": 5, "transaction_cost": 0.0}
    options["limits"] = Limits(max_gross=1.5, linear=linear)
    missing = np.full((ROWS, N), 0.01)
    missing[40, 0] = np.nan
    full, found = (weights_of(Fixed(x), **options) for x in (np.full((ROWS, N), 0.01), missing))
    np.testing.assert_array_equal(found[:40], full[:40])
    np.testing.assert_allclose(np.delete(found[::5], 8, axis=0).sum(axis=1)[:-1], 1.5, atol=1e-5)


def test_a_faint_forecast_is_not_scaled_up():
    assert weights_of(Fixed(np.full((ROWS, N), 1e-6))).sum(axis=1).max() < 0.001
    large = weights_of(Fixed(np.full((ROWS, N), 0.5)), transaction_cost=0.0)
    np.testing.assert_allclose(large[::24].sum(axis=1), 1.0, rtol=1e-9)


def test_a_forecast_over_a_longer_horizon_is_measured_in_its_own_risk():
    short, long = (
        weights_of(Fixed(np.full((ROWS, N), 1e-3), horizon=horizon), rebalance_freq=1)
        for horizon in (1, 4)
    )
    np.testing.assert_allclose(2 * long[40], short[40], rtol=1e-9)


def test_overlapping_forecasts_are_held_as_sleeves():
    model = Fixed(np.random.default_rng(2).normal(0, 0.05, (ROWS, N)), horizon=4)
    options = {"rebalance_freq": 1, "allow_short": True, "transaction_cost": 0.0}
    each, held = weights_of(model, **options), weights_of(model, stagger=True, **options)
    np.testing.assert_allclose(held[20], each[17:21].mean(axis=0), rtol=1e-9, atol=1e-12)


def test_classes_and_quantiles_become_weights():
    logits = np.zeros((ROWS, N, 3))
    logits[:, 0, 2], logits[:, 1, 0] = 3.0, 3.0
    options = {"transaction_cost": 0.0, "max_position": 0.4}
    np.testing.assert_allclose(weights_of(Fixed(logits), **options)[0], [0.4, 0.0, 0.0])
    both = weights_of(Fixed(logits), allow_short=True, **options)
    np.testing.assert_allclose(both[0], [0.4, -0.4, 0.0])

    table = np.zeros((ROWS, N, 5))
    table[..., 2] = [0.01, -0.01, 0.02]
    table[..., 0], table[..., 4] = table[..., 2] - 0.164485, table[..., 2] + 0.164485
    held = weights_of(Fixed(table, "distribution"), transaction_cost=0.0)
    np.testing.assert_allclose(held[0], [0.1, 0.0, 0.2], rtol=1e-4)


def test_max_position_holds_after_normalisation(refuse_input):
    model = Fixed(np.tile([0.8, 0.1, 0.1], (ROWS, 1)), "portfolio")
    held = weights_of(model, rebalance_freq=1, max_position=0.5)[:-1]
    assert held.max() <= 0.5 + 1e-9
    np.testing.assert_allclose(held.sum(axis=1), 1.0, rtol=1e-9)
    refuse_input(lambda: weights_of(model, max_position=0.3), "max_position")


def test_metrics_are_net_and_those_of_the_account():
    X, returns, times = windows(200)
    model = Fixed(np.random.default_rng(3).dirichlet(np.ones(N), 200), "portfolio")
    costly = CrossAttentionBacktest(model, rebalance_freq=1, transaction_cost=0.01)
    free = CrossAttentionBacktest(model, rebalance_freq=1, transaction_cost=0.0)
    results = costly.run(X, returns, times)
    net = costly.compute_metrics(results)
    gross = free.compute_metrics(free.run(X, returns, times))
    assert net["sharpe_ratio"] < gross["sharpe_ratio"] - 1
    assert net["total_costs"] > 0 == gross["total_costs"]
    assert net["periods_per_year"] == 8760
    assert net["total_return"] == pytest.approx(results["capital"].iloc[-1] / 100_000 - 1)
    assert net.items() <= costly.result_.metrics().items()


def test_an_asset_without_a_return_is_neither_traded_nor_moved():
    X, returns, times = windows()
    returns[:, 1] = np.nan
    returns[10:20, 2] = np.nan
    model = Fixed(np.full((ROWS, N), 1 / 3), "portfolio")
    results = CrossAttentionBacktest(model, rebalance_freq=5).run(X, returns, times)
    held = results.attrs["positions"].to_numpy()
    assert (held[:, 1] == 0).all()
    assert (np.diff(held[10:20, 2]) == 0).all()
    assert results["capital"].notna().all()


def test_a_last_bar_that_has_not_closed_has_no_row():
    X, returns, times = windows()
    returns[-1] = np.nan
    results = CrossAttentionBacktest(Fixed(np.full((ROWS, N), 0.1))).run(X, returns, times)
    assert results["timestamp"].tolist() == times.tolist()


def test_data_has_its_own_returns_and_names(make_frames):
    data = prepare_cross_attention_data(make_frames(200, N), lookback=8, horizon=2)

    class Model:
        symbols = (*data.symbols[1:], data.symbols[0])

        def predict(self, shown):
            assert tuple(shown.symbols) == self.symbols, "data comes in the model's order"
            rank = {symbol: k / 1000 for k, symbol in enumerate(sorted(shown.symbols))}
            return np.tile([rank[symbol] for symbol in shown.symbols], (len(shown), 1))

    backtest = CrossAttentionBacktest(Model(), rebalance_freq=10, transaction_cost=0.0)
    by_data = backtest.run(data)
    by_hand = backtest.run(data, data.bar_returns, data.timestamps)
    np.testing.assert_allclose(by_data["capital"], by_hand["capital"], rtol=1e-12)
    weights = by_data.attrs["weights"]
    assert list(weights.columns) == list(data.symbols) == list(by_data.attrs["positions"].columns)
    assert weights.iloc[0, 0] == 0 < weights.iloc[0, 1] < weights.iloc[0, 2]


def test_torch_modules_trade(make_frames):
    torch.manual_seed(0)
    data = prepare_cross_attention_data(make_frames(160, N), lookback=8, horizon=1)
    for kind in ("regression", "classification", "portfolio"):
        model = CrossAttentionMultiAsset(
            N, len(data.features), d_model=8, n_heads=2, n_layers=1, output_type=kind
        )
        results = CrossAttentionBacktest(model).run(data.X, data.bar_returns, data.timestamps)
        assert np.isfinite(results["return"]).all(), kind

    class Newest(torch.nn.Module):
        output_type = "portfolio"

        def forward(self, x):
            return x[:, :, -1, 0].softmax(dim=1)

    X = windows()[0]
    expected = np.exp(X[3, :, -1, 0]) / np.exp(X[3, :, -1, 0]).sum()
    np.testing.assert_allclose(weights_of(Newest(), rebalance_freq=3)[3], expected, rtol=1e-5)


def test_bad_input_is_refused_by_name(refuse_input):
    X, returns, times = windows()
    zero = Fixed(np.zeros((ROWS, N)))

    def run(model=zero, returns=returns, times=times, **options):
        return CrossAttentionBacktest(model, **options).run(X, returns, times)

    refuse_input(lambda: run(object()), "model must have a predict method")
    refuse_input(lambda: run(Fixed), "model must be an object, got the class Fixed")
    refuse_input(lambda: run(Fixed(zero.table, "portrait")), "output_type")
    refuse_input(lambda: run(Fixed(zero.table + np.inf)), "predictions")
    refuse_input(lambda: run(lambda X: np.full((len(X), N), 1e308)), "predictions must be finite")
    refuse_input(lambda: run(lambda X: None), "each of 3 windows, got shape \\(\\)")
    refuse_input(lambda: run(returns=np.zeros((ROWS, N + 1))), "predict shape")
    refuse_input(lambda: run(returns=np.zeros((ROWS - 1, N))), "one length")
    refuse_input(lambda: run(returns=np.zeros(ROWS)), "shape")
    refuse_input(lambda: run(returns=np.full((ROWS, N), np.inf)), "inf")
    refuse_input(lambda: run(returns=np.full((ROWS, N), -1.0)), "above -1")
    refuse_input(lambda: run(returns=None), "returns")
    refuse_input(lambda: run(times=times.tz_localize(None)), "timestamps: time must be UTC")
    refuse_input(lambda: run(limits=0.5), "limits must be Limits, got float")
    refuse_input(lambda: run(stagger="no"), "stagger must be True or False, got .no.")
    for wrong in ("7", 0, "0h", None, 2.5):
        words = "rebalance_freq must be a number of bars"
        refuse_input(functools.partial(run, rebalance_freq=wrong), words)


def test_returns_of_a_table_are_matched_by_name(make_frames, refuse_input):
    data = prepare_cross_attention_data(make_frames(160, N), lookback=8, horizon=1)
    table = pd.DataFrame(data.bar_returns, data.timestamps, list(data.symbols))
    backtest = CrossAttentionBacktest(lambda data: data.X[:, :, -1, 0])
    straight, turned = (backtest.run(data, each) for each in (table, table.iloc[:, ::-1]))
    pd.testing.assert_frame_equal(straight, turned)
    other = table.add_suffix("X")
    refuse_input(lambda: backtest.run(data, other), "returns: columns must be")
    refuse_input(lambda: backtest.compute_metrics(None), "results must have the columns")


def test_risk_of_the_first_rows_is_that_of_log_returns(make_frames):
    names = ["log_return", "range"]
    data = prepare_cross_attention_data(make_frames(60, N), 4, 1, names)
    runs = [
        CrossAttentionBacktest(lambda data: np.full((len(data), N), 1e-3), rebalance_freq=1).run(x)
        for x in (data, data.select(features=names[::-1]))
    ]
    pd.testing.assert_frame_equal(*runs)


def test_a_move_across_a_missing_bar_is_earned():
    """The close rises by 20 % while bars are missing: a data set's closes contain the move."""
    closes = {"A": [100.0] * 5 + [np.nan] * 2 + [120.0] * 5, "B": [50.0] * 12}
    data = prepare_cross_attention_data(flat_bars(closes, ["A", "B"]), 1, 1, ["log_return"])

    def half_in_a(windows):
        return np.tile([0.5, 0.0], (len(windows), 1))

    half_in_a.output_type = "portfolio"
    hold = CrossAttentionBacktest(half_in_a, transaction_cost=0.0, rebalance_freq=100)
    capital = hold.run(data)["capital"]
    assert capital.iloc[-1] == pytest.approx(110_000)
    assert (capital.iloc[:5] == 100_000).all()
    given = hold.run(data, data.bar_returns, data.timestamps)
    assert given["capital"].iloc[-1] == 100_000, "returns alone do not contain the move"


def mixed_data(make_frames, lookback=6):
    """A coin round the clock and two stocks of a session, on the half hour; a week of hours."""
    hours = make_frames(24 * 12, 3, seed=4)
    index = hours["S1"].index
    trades = (index.hour >= 14) & (index.hour < 21) & (index.day_of_week < 5)
    stocks = {
        s: hours[s][trades].set_axis(index[trades] + pd.Timedelta("30min")) for s in ("S1", "S2")
    }
    return prepare_cross_attention_data(
        {"S0": hours["S0"], **stocks}, lookback, "24h", ["log_return"], include_latest=True
    )


def likes(data):
    """Forecast the same return of every asset that has a bar."""
    return np.where(data.has_bar, 1.0, np.nan)


@pytest.mark.filterwarnings("ignore:few known targets")
@pytest.mark.parametrize("horizon", [24, "24h"])
def test_risk_is_over_the_bars_that_each_asset_has_in_the_horizon(horizon):
    """A stock beside a coin has the risk of seven of its bars a day, not that of 24."""
    frames = coin_and_stock(2400)
    nights = np.diff(frames["STOCK"].index, prepend=pd.NaT) > pd.Timedelta("1h")
    gap = np.exp(np.cumsum(nights * np.random.default_rng(1).normal(0, 0.015, len(nights))))
    frames["STOCK"][["open", "high", "low", "close"]] *= gap[:, None]
    data = prepare_cross_attention_data(frames, 48, horizon, ["log_return"])
    backtest = CrossAttentionBacktest(lambda d: np.where(d.has_bar, 1e-4, np.nan))
    weights = backtest.target_weights(data).to_numpy()
    ratio = np.nanmean((data.realised_volatility * weights / 1e-4) ** 2, axis=0)
    np.testing.assert_allclose(ratio, 1.0, atol=0.15)


@pytest.mark.parametrize("horizon", [24, "24h"])
@pytest.mark.parametrize("still", [0, 20])
def test_weights_are_the_same_wherever_the_windows_begin(horizon, still):
    """A stock of one bar a day beside a coin; the coin stands still at some of the starts."""
    frames = coin_and_stock(24 * 40)
    frames["STOCK"] = frames["STOCK"][frames["STOCK"].index.hour == 20]
    frames["COIN"].iloc[300 : 300 + still, :4] = frames["COIN"].iloc[300, 0]
    data = prepare_cross_attention_data(frames, 48, horizon, ["log_return"], include_latest=True)
    backtest = CrossAttentionBacktest(lambda d: np.where(d.has_bar, 1e-4, np.nan))
    whole = backtest.target_weights(data)
    assert (whole["STOCK"].dropna()[-15:] > 0).all() and whole["STOCK"].nunique() > 15
    for start in (100, 265, 500, len(data) - 24):
        pd.testing.assert_frame_equal(backtest.target_weights(data[start:]), whole[start:])


@pytest.mark.parametrize("stagger", [False, True])
def test_a_day_between_decisions_is_24_bars_on_an_hourly_clock(make_frames, stagger):
    data = prepare_cross_attention_data(make_frames(400, 3), 24, 48, ["log_return"])
    trend = lambda shown: shown.X[:, :, -9:, 0].sum(axis=2)  # noqa: E731
    runs = [
        CrossAttentionBacktest(trend, rebalance_freq=often, stagger=stagger, allow_short=True)
        for often in (24, "24h", pd.Timedelta(days=1))
    ]
    first, *others = (run.run(data) for run in runs)
    for results in others:
        pd.testing.assert_frame_equal(results, first)
        pd.testing.assert_frame_equal(results.attrs["weights"], first.attrs["weights"])
    for run in runs[1:]:
        pd.testing.assert_series_equal(run.benchmark_.equity, runs[0].benchmark_.equity)


def test_each_asset_decides_at_its_own_first_bar_of_a_period(make_frames):
    data = mixed_data(make_frames)
    backtest = CrossAttentionBacktest(likes, rebalance_freq="24h", transaction_cost=0.0)
    results = backtest.run(data)
    trades = backtest.result_.trades
    days = np.asarray((trades["time"] - data.timestamps[0]) // pd.Timedelta("24h"))
    assert not trades.assign(day=days).duplicated(["symbol", "day"]).any(), "one a day at most"
    assert set(trades["symbol"]) == {"S0", "S1", "S2"}
    for trade in trades.itertuples():
        row = data.timestamps.get_loc(trade.time)
        assert data.has_bar[row, data.symbols.index(trade.symbol)], "nothing while it is closed"
    decided = results["turnover"].to_numpy() > 0
    gross = results.attrs["weights"].abs().sum(axis=1).to_numpy()
    assert (gross[decided] < 1.05).all(), "held weight counts: no leverage but by drift"


def test_markets_that_decide_at_different_hours_share_the_account(make_frames):
    data = mixed_data(make_frames)
    half = CrossAttentionBacktest(likes, rebalance_freq="24h", max_position=0.4)
    weights = half.run(data).attrs["weights"]
    assert weights.iloc[0].to_numpy() == pytest.approx([0.4, 0, 0], abs=0.01)
    assert weights.iloc[-1].to_numpy() == pytest.approx([1 / 3] * 3, abs=0.03), "equal likes"
