"""Figures against empyrical-reloaded and quantstats, and against arithmetic by hand."""

import functools

import numpy as np
import pandas as pd
import pytest
from standin.backtesters import load

from crossattn import compute_metrics
from crossattn.portfolio.metrics import infer_periods_per_year


def daily(values):
    return pd.Series(values, pd.bdate_range("2020-01-01", periods=len(values)))


@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_empyrical_and_quantstats(seed, monkeypatch):
    monkeypatch.setattr(np, "NINF", -np.inf, raising=False)  # empyrical still asks for it
    empyrical, stats = load("empyrical"), load("quantstats").stats
    rng = np.random.default_rng(seed)
    returns = daily(rng.standard_t(4, 700) * 0.01 + 0.0005)
    returns.iloc[0] = -0.03 if seed % 2 else 0.0
    ours = compute_metrics(returns, periods_per_year=252)
    of_empyrical = {
        "total_return": empyrical.cum_returns_final(returns),
        "annual_return": empyrical.annual_return(returns, annualization=252),
        "volatility": empyrical.annual_volatility(returns, annualization=252),
        "sharpe_ratio": empyrical.sharpe_ratio(returns, annualization=252),
        "sortino_ratio": empyrical.sortino_ratio(returns, annualization=252),
        "max_drawdown": empyrical.max_drawdown(returns),
        "calmar_ratio": empyrical.calmar_ratio(returns, annualization=252),
    }
    of_quantstats = {
        "total_return": stats.comp(returns),
        "volatility": stats.volatility(returns, periods=252),
        "sharpe_ratio": stats.sharpe(returns, periods=252),
        "sortino_ratio": stats.sortino(returns, periods=252),
        "max_drawdown": stats.max_drawdown(returns),
        "win_rate": stats.win_rate(returns),
    }
    for theirs in (of_empyrical, of_quantstats):
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-9)


def test_ratios_without_risk():
    gain, flat, loss = (
        compute_metrics(np.full(5, bar), periods_per_year=252) for bar in (0.001, 0.0, -0.001)
    )
    assert gain["sharpe_ratio"] == gain["sortino_ratio"] == gain["calmar_ratio"] == np.inf
    assert flat["sharpe_ratio"] == flat["sortino_ratio"] == flat["calmar_ratio"] == 0.0
    assert flat["win_rate"] == 0.0
    assert loss["sharpe_ratio"] == -np.inf and loss["sortino_ratio"] < 0


def test_losing_everything_and_more():
    for last in (-1.0, -1.5):
        figures = compute_metrics(np.array([0.1, last, 0.0]), periods_per_year=252)
        assert figures["total_return"] == pytest.approx(1.1 * (1 + last) - 1)
        assert figures["annual_return"] == -1.0
    twice = compute_metrics(np.array([0.1, -1.5, -1.5, 0.2]), periods_per_year=252)
    assert twice["total_return"] == pytest.approx(-1.55), "no second loss makes a debt a fortune"
    assert twice["annual_return"] == -1.0
    assert twice["max_drawdown"] == pytest.approx(-1.5)


@pytest.mark.parametrize(
    ("index", "periods"),
    [
        (pd.date_range("2024-01-01", periods=900, freq="h", tz="UTC"), 8760),
        (pd.date_range("2024-01-01", periods=30, freq="h", tz="UTC"), 8760),
        (pd.date_range("2024-01-01", periods=90, freq="4h", tz="UTC"), 2190),
        (pd.date_range("2024-01-01", periods=9000, freq="min", tz="UTC"), 525_600),
        (pd.date_range("2024-01-01", periods=90, freq="D", tz="UTC"), 365),
        (pd.bdate_range("2024-01-01", periods=90, tz="UTC"), 252),
        (pd.bdate_range("2024-01-01", periods=90), 252),
        (pd.date_range("2024-01-01", periods=90, freq="W", tz="UTC"), 52),
        (pd.date_range("2024-01-01", periods=90, freq="ME", tz="UTC"), 12),
        (pd.date_range("2024-01-01", periods=90, freq="QE", tz="UTC"), 4),
        (pd.date_range("2000-01-01", periods=20, freq="YE", tz="UTC"), 1),
    ],
)
def test_periods_per_year_come_from_the_calendar(index, periods):
    assert infer_periods_per_year(index) == periods
    returns = pd.Series(np.random.default_rng(0).normal(0, 0.01, len(index)), index)
    figures = compute_metrics(returns)
    assert figures["periods_per_year"] == periods
    assert figures == compute_metrics(returns, periods_per_year=periods)


def test_stock_hours_rest_at_night_and_at_weekends():
    days = pd.bdate_range("2024-01-01", periods=60, tz="UTC")
    hours = pd.DatetimeIndex([d + pd.Timedelta(hours=14.5 + k) for d in days for k in range(7)])
    assert infer_periods_per_year(hours) == 252 * 7
    assert infer_periods_per_year(hours[:21]) == 252 * 7, "three sessions are enough to see it"


def test_missing_bars_do_not_change_the_calendar_unless_they_are_most(rng):
    index = pd.date_range("2024-01-01", periods=2400, freq="h", tz="UTC")
    for share, periods in ((0.9, 8760), (0.3, 0.3 * 8766)):
        kept = index[np.sort(rng.permutation(2400)[: int(share * 2400)])]
        assert infer_periods_per_year(kept) == pytest.approx(periods, rel=0.03)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York", "Pacific/Honolulu"])
@pytest.mark.parametrize("n_weeks", [1.4, 6, 120])
@pytest.mark.parametrize(("hours", "periods"), [(24, 252), (12, 504), (8, 756), (1, 6048)])
def test_weekday_bars_of_any_zone_dated_by_open_or_close(zone, n_weeks, hours, periods):
    days = pd.bdate_range("2022-01-03", periods=int(5 * n_weeks), tz=zone)
    opens = pd.DatetimeIndex(
        [day + pd.Timedelta(hours=h) for day in days for h in range(0, 24, hours)]
    )
    for index in (opens, opens + pd.Timedelta(hours=hours)):
        assert infer_periods_per_year(index.tz_convert("UTC")) == pytest.approx(periods, rel=0.01)


def rows_a_year(index):
    return len(index) / ((index[-1] - index[0]) / pd.Timedelta(days=365.25))


def test_unions_stubs_breaks_and_holidays_are_annualised_by_the_rows_of_a_year(rng):
    hours = pd.date_range("2022-01-03", periods=7000, freq="h", tz="UTC")
    days = pd.bdate_range("2022-01-03", periods=600, tz="America/New_York")
    stocks = pd.DatetimeIndex([d + pd.Timedelta(hours=9.5 + k) for d in days for k in range(7)])
    union = hours.union(stocks[stocks < hours[-1]].tz_convert("UTC"))
    assert rows_a_year(union) > 10_400
    every = pd.date_range("2022-01-03", periods=1500, freq="8h", tz="UTC")
    stub = every[(every.day_of_week < 5) | (every.day_of_week == 6) & (every.hour == 16)]
    tokyo = pd.bdate_range("2020-01-03", periods=1000, tz="Asia/Tokyo")
    tokyo = tokyo[rng.random(1000) > 0.12]
    lunch = pd.DatetimeIndex(
        [d + pd.Timedelta(hours=h) for d in tokyo for h in (9, 10, 11, 12.5, 13.5, 14.5)]
    )
    for index in (union, stub, lunch.tz_convert("UTC")):
        assert infer_periods_per_year(index) == pytest.approx(rows_a_year(index), rel=0.01)


def test_what_is_too_short_to_compound_over_a_year_is_nan():
    hours = pd.date_range("2024-01-01", periods=400, freq="h", tz="UTC")
    returns = pd.Series(np.where(np.arange(400) % 3 == 0, -0.01, 0.01), hours)
    short, long = compute_metrics(returns[:6]), compute_metrics(returns)
    assert np.isnan([short["annual_return"], short["calmar_ratio"]]).all()
    assert np.isfinite([short["total_return"], short["sharpe_ratio"], short["volatility"]]).all()
    assert np.isfinite(list(long.values())).all()
    assert compute_metrics(returns[:6] - 1)["annual_return"] == -1.0, "all is lost for any span"
    minutes = pd.Series(0.002, pd.date_range("2024-01-01", periods=6, freq="min", tz="UTC"))
    with np.errstate(over="raise"):
        assert np.isnan(compute_metrics(minutes)["annual_return"])


def test_bad_input_is_refused_by_name(refuse_input):
    daily_figures = functools.partial(compute_metrics, periods_per_year=252)
    refuse_input(lambda: daily_figures(np.array([0.1, np.nan])), "nan at position 1")
    refuse_input(lambda: daily_figures(np.array([0.1, np.inf])), "finite")
    refuse_input(lambda: daily_figures(np.array([0.1])), "two values")
    refuse_input(lambda: daily_figures(np.zeros((3, 2))), "shape")
    for words in (["a", "b"], ["0.1", "0.2"], pd.to_datetime(["2024-01-01", "2024-01-02"])):
        refuse_input(lambda words=words: daily_figures(pd.Series(words)), "numbers")
    refuse_input(lambda: daily_figures(np.array([1j, 0])), "numbers")
    refuse_input(lambda: daily_figures(np.full(999, 10.0)), "fraction, got 10")
    refuse_input(lambda: compute_metrics(np.zeros(5)), "periods_per_year")
    refuse_input(lambda: compute_metrics(np.zeros(5), periods_per_year=0), "periods_per_year")
    refuse_input(lambda: compute_metrics([0.1, 0.2]), "periods_per_year")
    mixed = daily(np.zeros(9)).iloc[[0, 1, 2, 3, 8, 4, 5, 6, 7]]
    refuse_input(lambda: compute_metrics(mixed), "sorted")
    refuse_input(lambda: compute_metrics(daily(np.zeros(5)).iloc[::-1]), "sorted")
