"""Every cost by hand, and the rules for halts and delistings."""

import functools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standin.prices import at, run, table

from crossattn.portfolio import Costs
from crossattn.portfolio._account import value_after_costs

YEAR = pd.Timedelta(days=365.25)
LAW = {"costs": Costs(impact=1.5), "sizing": "before_cost"}


def test_a_fixed_fee_is_paid_per_order():
    prices = table([[10.0, 10.0], [10.0, 10.0]])
    result = run(prices, [0], [[0.5, 0.0]], costs=Costs(fixed=30.0))
    assert result.costs.tolist() == [30.0, 0.0]
    assert result.equity.iloc[0] == pytest.approx(99_970.0)
    assert result.weights.iloc[0].tolist() == pytest.approx([0.5, 0.0])


def test_slippage_adds_to_the_fee():
    prices = table([[10.0], [10.0]])
    order = prices, [0, 1], [[0.5], [0.0]]
    both = run(*order, transaction_cost=0.001, costs=Costs(slippage=0.002))
    fee = run(*order, transaction_cost=0.003)
    pd.testing.assert_series_equal(both.equity, fee.equity)


def test_impact_is_a_square_root_law():
    prices = table([[10.0]] * 3)
    known = {"volume": prices * 0 + 4_000_000.0, "volatility": prices * 0 + 0.02}
    once, twice = (
        run(prices, [1], [[0.5]], initial_capital=capital, **known, **LAW).costs.iloc[1]
        for capital in (100_000.0, 200_000.0)
    )
    order = 50_000.0
    assert once == pytest.approx(1.5 * 0.02 * order * np.sqrt(order / 4e6))
    assert twice / once == pytest.approx(2**1.5)


def test_without_known_volume_a_target_waits():
    prices = table([[10.0]] * 4)
    money = prices * 0 + 1e7
    money.iloc[:2] = np.nan
    result = run(prices, [0], [[0.5]], volume=money, volatility=prices * 0 + 0.01, **LAW)
    assert result.trades["time"].tolist() == [prices.index[2]]


def test_borrowed_stock_is_paid_for_by_time():
    prices = table([[10.0], [10.0], [10.0]], freq="73D")
    result = run(prices, [0], [[-0.5]], costs=Costs(borrow_rate=0.1))
    paid = 0.1 * 50_000 * (pd.Timedelta(days=73) / YEAR)
    assert result.financing.tolist() == pytest.approx([0.0, paid, paid])
    assert result.equity.iloc[-1] == pytest.approx(100_000 - 2 * paid)


def test_cash_earns_and_debt_pays():
    prices = table([[10.0], [10.0]], freq="73D")
    share = pd.Timedelta(days=73) / YEAR
    rates = Costs(cash_rate=0.05, margin_rate=0.2)
    saver, debtor = (run(prices, [0], [[weight]], costs=rates) for weight in (0.4, 1.5))
    assert saver.financing.iloc[1] == pytest.approx(-0.05 * 60_000 * share)
    assert debtor.financing.iloc[1] == pytest.approx(0.2 * 50_000 * share)


def test_funding_goes_from_long_to_short():
    prices = table([[10.0, 20.0], [12.0, 20.0]])
    result = run(prices, [0], [[0.5, -0.5]], funding=at(prices, [1], [[0.001, 0.002]]))
    assert result.financing.iloc[1] == pytest.approx(0.001 * 60_000 - 0.002 * 50_000)


@pytest.mark.parametrize("last", [-1.0, -0.3, 0.0])
def test_a_delisted_position_is_paid_out(last):
    prices = table([[10.0, 5.0], [12.0, 5.0], [99.0, 5.0], [99.0, 5.0]])
    gone = {"A": prices.index[2] - pd.Timedelta(hours=1)}
    result = run(prices, [0, 3], [[0.5, 0.0]] * 2, delistings=gone, delisting_return=last)
    paid = 50_000 + 60_000 * (1 + last)
    assert result.equity.iloc[1:].tolist() == pytest.approx([110_000.0, paid, paid])
    assert result.trades["kind"].tolist() == ["order", "delisting"]
    assert result.positions["A"].iloc[-1] == 0


def test_a_delisting_at_the_last_bar_pays_that_bar():
    prices = table([[10.0, 5.0], [12.0, 5.0], [4.0, 5.0], [np.nan, 5.0]])
    gone = {"A": prices["A"].last_valid_index()}
    result = run(prices, [0], [[0.5, 0.0]], delistings=gone)
    assert result.equity.tolist() == pytest.approx([100_000.0, 110_000.0, 70_000.0, 70_000.0])


def test_the_band_leaves_small_differences_alone():
    prices = table([[10.0, 10.0], [11.0, 10.0], [20.0, 10.0]])
    result = run(prices, [0, 1, 2], [[0.5, 0.5]] * 3, no_trade_band=0.1)
    assert result.turnover.tolist()[1] == 0.0, "a drift of .024 is inside the band"
    assert result.weights.iloc[2].tolist() == pytest.approx([0.5, 0.5])


@settings(max_examples=200)
@given(
    value=st.floats(1.0, 1e9),
    weights=st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=6),
    held=st.lists(st.floats(-1.5, 1.5), min_size=6, max_size=6),
    rate=st.floats(0.0, 0.05),
    impact=st.floats(0.0, 1e-3),
)
def test_the_value_after_costs_solves_its_equation(value, weights, held, rate, impact):
    weights = np.array(weights)
    held = np.array(held[: len(weights)]) * value
    law = np.full(len(weights), impact / np.sqrt(value))
    active = np.ones(len(weights), bool)
    after = value_after_costs(value, weights, held, active, rate, law, 0.0)
    assert 0 <= after <= value
    if after > 0:
        size = np.abs(weights * after - held)
        paid = (rate * size + law * size**1.5).sum()
        assert after + paid == pytest.approx(value, rel=1e-12)


def test_bad_input_is_refused_by_name(refuse_input):
    p = table([[10.0, 20.0], [11.0, 21.0]])
    law = functools.partial(run, p, [0], [[0.5, 0.1]], costs=Costs(impact=1))
    free = functools.partial(run, p, [0], [[0.5, 0.1]])
    refuse_input(lambda: free(costs=Costs(fixed=-1)), "fixed")
    refuse_input(lambda: free(costs=Costs(slippage=1.0)), "slippage")
    refuse_input(lambda: free(costs=Costs(fixed=1), sizing="bt"), "sizing")
    refuse_input(law, "volume")
    refuse_input(lambda: law(volume=-p), "volume")
    refuse_input(lambda: law(volume=p, volatility=-p), "volatility")
    refuse_input(lambda: free(funding=p * np.inf), "funding")
    refuse_input(lambda: free(funding=p.rename(columns={"A": "Z"})), "funding")
