"""Sharpe intervals cover what they claim; deflation survives many tries."""

import functools

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import norm

from crossattn.portfolio.significance import (
    deflated_sharpe,
    expected_best_sharpe,
    probabilistic_sharpe,
    sharpe_interval,
)


def autocorrelated(rng, n, rho, mean):
    noise = rng.normal(0, 1, n)
    noise[1:] *= np.sqrt(1 - rho**2)
    return 0.01 * (lfilter([1], [1, -rho], noise) + mean)


def test_hac_equals_the_textbook_on_independent_normal_returns():
    returns = np.random.default_rng(0).normal(0.001, 0.01, 20_000)
    interval = sharpe_interval(returns, periods_per_year=1, lags=0)
    ratio = interval.sharpe_ratio
    textbook = np.sqrt((1 + ratio**2 / 2) / len(returns))
    assert interval.standard_error == pytest.approx(textbook, rel=0.03)
    width = 2 * norm.ppf(0.975) * interval.standard_error
    assert interval.high - interval.low == pytest.approx(width, rel=1e-12)


@pytest.mark.parametrize("method", ["hac", "bootstrap"])
def test_intervals_cover_under_autocorrelation(method, rng):
    """At an autocorrelation of .3 the textbook's interval covers .85, not .95."""
    hits, naive, trials = 0, 0, 120
    options = {"method": method, "periods_per_year": 1, "n_resamples": 300, "lags": 12}
    for trial in range(trials):
        returns = autocorrelated(rng, 600, 0.3, 0.05)
        interval = sharpe_interval(returns, seed=trial, **options)
        hits += interval.low <= 0.05 <= interval.high
        naive += abs(interval.sharpe_ratio - 0.05) < 1.96 / np.sqrt(600)
    assert hits / trials > 0.88
    assert naive / trials < 0.90


def test_the_interval_is_annual():
    returns = np.random.default_rng(2).normal(0.001, 0.01, 500)
    bar = sharpe_interval(returns, periods_per_year=1)
    year = sharpe_interval(returns, periods_per_year=252)
    for name in ("sharpe_ratio", "low", "high", "standard_error"):
        assert getattr(year, name) == pytest.approx(getattr(bar, name) * np.sqrt(252), rel=1e-12)


def test_probabilistic_sharpe_by_hand():
    returns = np.array([0.01, 0.02, -0.01, 0.005, 0.0, 0.015, -0.02, 0.03, 0.01, 0.004])
    centred = returns - returns.mean()
    ratio = returns.mean() / returns.std(ddof=1)
    g3 = (centred**3).mean() / (centred**2).mean() ** 1.5
    g4 = (centred**4).mean() / (centred**2).mean() ** 2
    error = np.sqrt((1 - g3 * ratio + (g4 - 1) / 4 * ratio**2) / 9)
    expected = norm.cdf((ratio - 0.1) / error)
    assert probabilistic_sharpe(returns, 0.1, periods_per_year=1) == pytest.approx(expected)


def test_deflated_sharpe_of_the_paper():
    """The example of Bailey and López de Prado (2014): .9004, so the discovery is refused.

    2.5 a year over 1,250 days, skewness -3, kurtosis 10, the best of 100 trials whose annual
    Sharpe ratios have variance .5. That skewness and kurtosis are those of two values.
    """
    days = np.where(np.arange(1250) < 105, -1.0, 1.0)
    days = (days - days.mean()) / days.std(ddof=1) + 2.5 / np.sqrt(250)
    trials = np.linspace(-1, 1, 100)
    trials *= np.sqrt(0.5) / trials.std(ddof=1)
    assert deflated_sharpe(days, trials, periods_per_year=250) == pytest.approx(0.9004, abs=5e-4)


def test_the_interval_of_a_nearly_riskless_account_is_finite():
    returns = 1e-3 + 1e-12 * np.random.default_rng(5).normal(size=500)
    interval = sharpe_interval(returns, periods_per_year=1)
    ratio = interval.sharpe_ratio
    assert interval.standard_error == pytest.approx(ratio / np.sqrt(2 * 500), rel=0.3)


def test_expected_best_of_worthless_trials(rng):
    best = rng.normal(0, 0.7, (4000, 50)).max(axis=1).mean()
    assert expected_best_sharpe(50, 0.7) == pytest.approx(best, rel=0.02)
    assert expected_best_sharpe(1, 0.7) == 0.0


def test_the_best_of_many_worthless_strategies_is_rarely_called_skill(rng):
    fooled = deflated = 0
    for _ in range(60):
        tries = rng.normal(0, 0.01, (40, 300))
        sharpes = tries.mean(axis=1) / tries.std(axis=1, ddof=1)
        best = tries[sharpes.argmax()]
        fooled += probabilistic_sharpe(best, periods_per_year=1) > 0.95
        deflated += deflated_sharpe(best, sharpes, periods_per_year=1) > 0.95
    assert fooled > 45, "the best of forty looks significant"
    assert deflated <= 6, "once the forty are counted, it does not"


BAR = {"periods_per_year": 1}


def test_bad_input_is_refused_by_name(refuse_input):
    r = np.random.default_rng(0).normal(0, 0.01, 50)
    refuse_input(lambda: sharpe_interval(r[:5], **BAR), "ten")
    refuse_input(lambda: sharpe_interval(r * 0, **BAR), "vary")
    refuse_input(lambda: sharpe_interval(r, lags=-1, **BAR), "lags")
    resampled = functools.partial(sharpe_interval, r, method="bootstrap", **BAR)
    refuse_input(lambda: resampled(n_resamples=3), "n_resamples")
    refuse_input(lambda: resampled(seed=-1), "seed")
    refuse_input(lambda: sharpe_interval(r), "periods_per_year")
    refuse_input(lambda: deflated_sharpe(r, [], **BAR), "trials")
    refuse_input(lambda: deflated_sharpe(r, [np.nan], **BAR), "trials")
