"""The engine on cases small enough to check by hand, and against an account kept the slow way."""

import functools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from standin.prices import at, run, table

from crossattn import backtest_weights


def test_weights_drift_and_the_cost_is_paid_from_the_account():
    prices = table([[10.0, 20.0], [11.0, 20.0], [11.0, 10.0]])
    result = run(prices, [0], [[0.5, 0.25]], transaction_cost=0.01)
    # V' = V - .01 * .75 V', so V' = V / 1.0075
    value = 100_000 / 1.0075
    assert result.equity.iloc[0] == pytest.approx(value, rel=1e-14)
    assert result.costs.tolist() == pytest.approx([0.0075 * value, 0, 0], rel=1e-12)
    shares = [0.5 * value / 10, 0.25 * value / 20]
    assert result.positions.iloc[0].tolist() == pytest.approx(shares, rel=1e-13)
    assert not result.positions.diff()[1:].any(axis=None), "nothing trades between targets"
    assert result.equity.iloc[2] == pytest.approx(value * (0.25 + 0.55 + 0.125), rel=1e-13)
    assert result.returns.iloc[0] == pytest.approx(1 / 1.0075 - 1, rel=1e-12)
    assert result.returns.iloc[1] == pytest.approx(0.05, rel=1e-12)
    assert result.turnover.tolist() == pytest.approx([0.75 / 1.0075, 0, 0], rel=1e-12)
    assert result.weights.iloc[1].tolist() == pytest.approx([0.55 / 1.05, 0.25 / 1.05], rel=1e-12)


def test_ruin_is_a_result_and_final():
    prices = table([[10.0], [25.0], [1.0], [50.0]])
    result = run(prices, [0, 2], [[-1.0], [1.0]])
    assert result.equity.tolist() == [100_000.0] + [-50_000.0] * 3
    assert result.returns.tolist() == [0.0, -1.5, 0.0, 0.0]
    assert result.trades["kind"].tolist() == ["order", "ruin"]
    assert result.trades["time"].iloc[-1] == prices.index[1]
    assert (result.positions.iloc[1:] == 0).all(axis=None)
    figures = result.metrics()
    assert figures["annual_return"] == -1.0
    too_few = ("sharpe_ratio_low", "sharpe_ratio_high")  # rows for an interval
    assert all(np.isfinite(figures[name]) for name in figures if name not in too_few)


def test_costs_that_exceed_the_account_ruin_it():
    prices = table([[10.0], [14.9], [14.9]])
    result = run(prices, [0, 1], [[-2.0], [0.0]], transaction_cost=0.3)
    assert result.equity.iloc[2] == result.equity.iloc[1] <= 0


def keep_by_hand(weights, prices, *, fee, lag, sizing):
    """Equity by row and final shares, the slow way: dictionaries and bisection.

    ``weights``: {row: {symbol: weight}}; ``prices``: list of {symbol: price or None}.
    """
    cash, shares, last, waiting, equity = 100_000.0, {}, {}, {}, []
    for row, quotes in enumerate(prices):
        last.update({s: p for s, p in quotes.items() if p is not None})
        for symbol, weight in weights.get(row - lag, {}).items():
            waiting[symbol] = weight
        value = cash + sum(shares.get(s, 0.0) * last[s] for s in last)
        now = {s: w for s, w in waiting.items() if quotes[s] is not None}
        if now and value > 0:
            held = {s: shares.get(s, 0.0) * quotes[s] for s in now}

            def left(base, now=now, held=held, value=value):
                paid = math.fsum(fee * abs(w * base - held[s]) for s, w in now.items())
                return base + paid - value

            base = value if sizing == "before_cost" or left(value) == 0 else None
            if base is None:
                base = brentq(left, 0.0, value, xtol=1e-12, rtol=1e-15, maxiter=500)
            for symbol, weight in now.items():
                order = weight * base - held[symbol]
                cash -= order + fee * abs(order)
                shares[symbol] = weight * base / quotes[symbol]
                del waiting[symbol]
        equity.append(cash + sum(shares.get(s, 0.0) * last[s] for s in last))
    return equity, shares


@pytest.mark.parametrize("sizing", ["after_cost", "before_cost"])
@pytest.mark.parametrize("lag", [0, 2])
def test_equals_an_account_kept_by_hand(sizing, lag):
    rng = np.random.default_rng(5 + lag)
    for _ in range(20):
        prices = table(np.exp(np.cumsum(rng.normal(0, 0.05, (30, 3)), axis=0)))
        prices = prices.mask(rng.random(prices.shape) < 0.15)
        prices.iloc[3] = 1.0
        rows = np.flatnonzero(rng.random(30) < 0.4)
        values = rng.normal(0.2, 0.4, (len(rows), 3))
        values[rng.random(values.shape) < 0.2] = np.nan
        options = {"execution_lag": lag, "sizing": sizing}
        result = run(prices, rows, values, transaction_cost=0.004, **options)
        orders = {
            row: {s: w for s, w in zip("ABC", cells, strict=True) if np.isfinite(w)}
            for row, cells in zip(rows, values, strict=True)
        }
        quotes = prices.astype(object).where(prices.notna(), None).to_dict("records")
        expected, shares = keep_by_hand(orders, quotes, fee=0.004, lag=lag, sizing=sizing)
        np.testing.assert_allclose(result.equity, expected, rtol=1e-11)
        for symbol, count in shares.items():
            assert result.positions[symbol].iloc[-1] == pytest.approx(count, rel=1e-9, abs=1e-7)


def test_an_account_at_its_target_is_left_alone():
    prices = table([[10.0, 20.0]] * 4)
    result = run(prices, [0, 1, 2], [[0.6, 0.4]] * 3, transaction_cost=0.001)
    assert len(result.trades) == 2
    assert result.costs.iloc[1:].tolist() == [0.0, 0.0, 0.0]


def test_scaling_prices_renaming_and_permuting_assets_change_nothing(rng):
    prices = table(np.exp(np.cumsum(rng.normal(0, 0.03, (60, 4)), axis=0)))
    weights = at(prices, np.arange(0, 60, 7), rng.normal(0.2, 0.3, (9, 4)))
    plain = backtest_weights(weights, prices)
    scaled = backtest_weights(weights, prices * [1e-3, 7.0, 1e5, 2.5])
    np.testing.assert_allclose(scaled.equity, plain.equity, rtol=1e-12)
    order = list("CADB")
    permuted = backtest_weights(weights[["B", "D", "A", "C"]], prices[order])
    np.testing.assert_allclose(permuted.equity, plain.equity, rtol=1e-12)
    np.testing.assert_allclose(permuted.positions[list("ABCD")], plain.positions, rtol=1e-9)
    names = dict(zip("ABCD", ["x", "y", "z", "ä/ö"], strict=True))
    renamed = backtest_weights(weights.rename(columns=names), prices.rename(columns=names))
    pd.testing.assert_series_equal(renamed.equity, plain.equity)
    capital = backtest_weights(weights, prices, initial_capital=1.0)
    np.testing.assert_allclose(capital.equity * 100_000, plain.equity, rtol=1e-12)


def test_inputs_are_not_changed():
    prices = table([[10.0, np.nan], [12.0, 5.0], [9.0, 6.0]])
    weights = at(prices, [0], [[0.5, np.nan]])
    kept = prices.copy(), weights.copy()
    backtest_weights(weights, prices, delistings={"A": prices.index[1]}, delisting_return=-0.5)
    pd.testing.assert_frame_equal(prices, kept[0])
    pd.testing.assert_frame_equal(weights, kept[1])


def test_bad_input_is_refused_by_name(refuse_input):
    trade, prices = backtest_weights, table([[10.0, 20.0], [11.0, 20.0], [11.0, 10.0]])
    weights = at(prices, [0, 1], [[0.5, 0.25], [0.2, 0.3]])
    naive, late = weights.tz_localize(None), weights.shift(freq="1min")
    refuse_input(lambda: trade(naive, prices.tz_localize(None)), "without a time zone")
    refuse_input(lambda: trade(naive, prices), "weights")
    refuse_input(lambda: trade(weights, prices.iloc[::-1]), "prices: time must increase")
    refuse_input(lambda: trade(weights, prices.iloc[[0, 0, 1]]), "repeats")
    refuse_input(lambda: trade(weights, prices[["A", "A"]]), "unique symbols")
    refuse_input(lambda: trade(weights, prices.reset_index(drop=True)), "index must hold time")
    refuse_input(lambda: trade(weights, prices.to_numpy()), "DataFrame")
    refuse_input(lambda: trade(late, prices), "times of prices")
    refuse_input(lambda: trade(weights.rename(columns={"A": "Z"}), prices), "Z")
    refuse_input(lambda: trade(weights, prices.replace(11.0, 0.0)), "positive")
    refuse_input(lambda: trade(weights, prices.replace(11.0, np.inf)), "inf")
    refuse_input(lambda: trade(weights, prices.assign(B=np.nan)), "only NaN")
    refuse_input(lambda: trade(weights, prices.assign(B="x")), "numbers")
    dates = prices.assign(B=prices.index)
    refuse_input(lambda: trade(weights, dates), "prices must be numbers: times")
    refuse_input(lambda: trade(weights.assign(A=-np.inf), prices), "weights")
    refuse_input(lambda: trade(weights * 1e6, prices), "gross weight")
    refuse_input(lambda: trade(weights.iloc[:0], prices.iloc[:0]), "shape")
    trade = functools.partial(trade, weights, prices)
    refuse_input(lambda: trade(transaction_cost=-0.1), "transaction_cost")
    refuse_input(lambda: trade(transaction_cost=1.0), "transaction_cost")
    refuse_input(lambda: trade(sizing="magic"), "sizing")
    refuse_input(lambda: trade(delistings={"Z": prices.index[0]}), "delistings")
    refuse_input(lambda: trade(delistings={"A": "soon"}), "UTC times, got 'soon'")
    refuse_input(lambda: trade(delistings=["A"]), "must be a mapping, got list")
    refuse_input(lambda: trade(delisting_return=-2.0), "delisting_return")
    refuse_input(lambda: trade(costs=0.1), "costs must be Costs, got float")
