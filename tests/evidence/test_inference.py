"""Contribution scores against a slow loop, errors and q-values against statsmodels, sizes."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.multitest import multipletests

from crossattn.evidence.inference import (
    _residualised,
    benjamini_hochberg,
    contribution_scores,
    known_steps,
    newey_west_lags,
    robust_mean_t,
    robust_regression,
)


def noise(n=400):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n, 3)) * [1.0, 1e-4, 30.0] + [0.0, 2.0, -5.0]
    scale = np.exp(generator.normal(size=n))
    return x @ [0.3, 100.0, 0.0] + scale * generator.normal(size=n), x


@pytest.mark.parametrize(
    ("options", "kind", "settings"),
    [
        ({"lags": 0}, "HAC", {"maxlags": 0, "use_correction": True}),
        ({"lags": 5}, "HAC", {"maxlags": 5, "use_correction": True}),
        ({"leverage": True}, "HC3", {}),
    ],
)
def test_errors_equal_statsmodels(options, kind, settings):
    y, x = noise()
    mine = robust_regression(y, x, **options)
    theirs = sm.OLS(y, sm.add_constant(x)).fit(cov_type=kind, cov_kwds=settings)
    np.testing.assert_allclose(mine.slope, theirs.params[1:], rtol=1e-8)
    np.testing.assert_allclose(mine.error, theirs.bse[1:], rtol=1e-6)
    wald = theirs.wald_test(np.eye(4)[[1, 3]], scalar=True, use_f=False)
    many = replace(mine, freedom=np.full(3, np.inf))
    np.testing.assert_allclose(many.wald([0, 2]), wald.pvalue, rtol=1e-5, atol=1e-12)


def test_freedom_counts_the_rows_that_carry_the_error(rng):
    x, y = rng.normal(size=(2, 2000))
    calm = robust_regression(y, x[:, None]).freedom[0]
    y[:10] *= 100
    wild = robust_regression(y, x[:, None]).freedom[0]
    assert 200 < calm < 1500  # 2 n / (kurtosis of x * y, about 9, minus 1)
    assert wild < 15


def test_a_joint_test_of_one_slope_is_its_t_test():
    y, x = noise(n=60)
    fit = robust_regression(y, x, leverage=True)
    both = 2 * stats.t.sf(np.abs(fit.t), fit.freedom)
    np.testing.assert_allclose([fit.wald([k]) for k in range(3)], both, rtol=1e-9)


def test_joint_tests_hold_their_size_where_rows_are_few(rng):
    """Ten rows a slope, fat tails: by a chi-squared law 1.8 % of idle groups pass at 1 %."""
    p = []
    for _ in range(400):
        y, x = rng.standard_t(4, size=200), rng.standard_t(4, size=(200, 20))
        fit = robust_regression(y, x, lags=4, leverage=True)
        p.extend(fit.wald(range(start, start + 5)) for start in (0, 5, 10, 15))
    p = np.array(p)
    assert (p < 0.01).mean() < 0.016
    assert 0.02 < (p < 0.05).mean() < 0.065


def test_mean_t_equals_the_regression_on_a_constant():
    y = noise()[0]
    theirs = sm.OLS(y, np.ones(len(y))).fit(cov_type="HAC", cov_kwds={"maxlags": 3})
    np.testing.assert_allclose(robust_mean_t(y, 3), theirs.tvalues[0], rtol=1e-10)


@pytest.mark.parametrize(("value", "t"), [(0.1, np.nan), (-3.0, np.nan), (0.0, 0.0)])
def test_the_mean_of_one_value_has_no_t(value, t):
    np.testing.assert_equal(robust_mean_t(np.full(70, value), 2), t)


def test_q_values_equal_statsmodels(refuse_input):
    p = np.random.default_rng(1).uniform(size=(4, 5)) ** 2
    expected = multipletests(p.ravel(), method="fdr_bh")[1]
    np.testing.assert_allclose(benjamini_hochberg(p).ravel(), expected)
    refuse_input(lambda: benjamini_hochberg([0.1, np.nan]), "p_values")


def test_newey_west_lags_cover_the_overlap():
    assert newey_west_lags(100) == 4
    assert newey_west_lags(100, horizon=24) >= 24


def test_a_constant_regressor_is_no_evidence(refuse_input):
    y, x = noise()
    x = x.copy()
    x[:, 1] = 7.0
    fit = robust_regression(y, x)
    assert fit.t[1] == 0
    refuse_input(lambda: robust_regression(y[:4], x[:4]), "rows")


def session_market(n_rows=1400, horizon=5):
    """Closes of 9 hours a day, heavy tails, and contributions of which the first is right."""
    generator = np.random.default_rng(0)
    steps = 0.01 * generator.standard_t(3, size=n_rows)
    parts = 0.003 * generator.standard_t(4, size=(n_rows, 3))
    steps[1:] += parts[:-1, 0]
    closes = np.exp(np.cumsum(steps))
    closes[np.arange(n_rows) % 24 > 8] = np.nan
    starts = np.arange(60, n_rows)
    stops = np.where(starts + horizon < n_rows, starts + horizon, -1)
    return closes, starts, stops, 3600 * np.arange(n_rows) + 7 * 86_400, parts[starts]


def by_loop(closes, starts, stops, clock, parts):
    """The same scores, one number after the other."""
    rows = [k for k in range(len(closes)) if closes[k] == closes[k]]
    width = [b - a for a, b in itertools.pairwise(rows)]
    step = [np.log(closes[b] / closes[a]) for a, b in itertools.pairwise(rows)]
    wide = [w > np.median(width) for w in width]
    typical = [
        np.median([r * r for r, w in zip(step, wide, strict=True) if w == k]) for k in (0, 1)
    ]
    usual = [np.sqrt(typical[1] / typical[0]) if w else 1.0 for w in wide]
    sigma = []
    for k in range(len(step)):
        # the first step has the volatility of the thirteen from the start
        past = [step[m] / usual[m] for m in range(k if k else 13)]
        weight = [0.5 ** ((len(past) - 1 - m) / 12) for m in range(len(past))]
        recent = sum(w * r * r for w, r in zip(weight, past, strict=True)) / sum(weight)
        sigma.append(max(recent, sum(r * r for r in past) / len(past) / 100) ** 0.5)
    sigma = np.array(sigma) * usual
    step = np.array([max(min(r, 4 * s), -4 * s) for r, s in zip(step, sigma, strict=True)])
    place = {row: k for k, row in enumerate(rows)}
    known = [k for k in range(len(starts)) if starts[k] in place and stops[k] in place]
    first = [place[starts[k]] for k in known]
    last = [place[stops[k]] for k in known]
    x = np.array([parts[k] / sigma[u] for k, u in zip(known, first, strict=True)])
    for _ in range(2):
        bound = 4 * np.sqrt((x**2).mean(axis=0))
        x = np.clip(x, -bound, bound)
    own = [[1 / sigma[u]] + [step[u - m] / sigma[u - m] for m in (1, 2, 3)] for u in first]
    t, freedom = [], []
    for j in range(x.shape[1]):
        others = np.column_stack([np.delete(x, j, axis=1), own])
        residual = x[:, j] - others @ np.linalg.lstsq(others, x[:, j])[0]
        held = np.zeros(len(step))
        for e, a, b in zip(residual, first, last, strict=True):
            held[a:b] += e / sigma[a]
        inside = sorted({u for a, b in zip(first, last, strict=True) for u in range(a, b)})
        mean = np.mean([step[u] / sigma[u] for u in inside])
        # fewer than 60 days: blocks are sixtieths of the test part
        length = (clock[starts[-1]] - clock[starts[0]]) / 60
        score, information = {}, {}
        for u in inside:
            block = clock[rows[u]] // length
            shock = step[u] - mean * sigma[u]
            score[block] = score.get(block, 0) + held[u] * shock
            information[block] = information.get(block, 0) + (held[u] * sigma[u]) ** 2
        score, information = np.array(list(score.values())), np.array(list(information.values()))
        t.append(score.sum() / np.sqrt((score**2).sum()))
        freedom.append(information.sum() ** 2 / (information**2).sum() - 1)
    return np.array(t), np.array(freedom)


@pytest.mark.parametrize("horizon", [1, 5])
def test_scores_equal_a_slow_loop(horizon):
    market = session_market(horizon=horizon)
    t, freedom = by_loop(*market)
    found = contribution_scores(*market)
    assert found["tested"].all()
    np.testing.assert_allclose(found["t"], t, rtol=1e-6)
    np.testing.assert_allclose(found["n_effective"], freedom + 1, rtol=1e-6)
    np.testing.assert_allclose(found["p_value"], stats.t.sf(t, freedom), rtol=1e-6)


def test_a_right_contribution_has_slope_one_within_its_error():
    found = contribution_scores(*session_market(n_rows=20_000, horizon=1))
    assert found["p_value"][0] < 1e-6 < found["p_value"][1:].min()
    # clipping at four deviations of either side takes a little of the slope
    assert abs(found["slope"][0] - 0.9) < 3 * found["slope_error"][0]
    assert (np.abs(found["slope"][1:]) < 3.5 * found["slope_error"][1:]).all()


def test_a_few_days_never_give_a_small_p_value():
    closes, starts, stops, clock, parts = session_market(n_rows=24 * 90, horizon=1)
    parts[24 * 7 :, 1] = 0.0  # varies during a week of three months
    found = contribution_scores(closes, starts, stops, clock, parts)
    assert found["tested"].tolist() == [True, False, True]
    assert found["n_effective"][1] < 8
    assert (found["p_value"][1], found["t"][1], found["slope"][1]) == (1.0, 0.0, 0.0)
    assert (found["t"] ** 2 <= 87).all()


def test_a_silent_source_is_no_claim():
    closes, starts, stops, clock, parts = session_market()
    parts[:, 1] = 0.0
    found = contribution_scores(closes, starts, stops, clock, parts)
    assert found["inactive"].tolist() == [False, True, False] and found["tested"].all()
    assert found["p_value"][1] == 1.0
    few = contribution_scores(closes, starts[:39], stops[:39], clock, parts[:39])
    assert not few["tested"].any() and (few["p_value"] == 1).all()


def test_faint_sources_are_no_claims_where_there_are_many():
    closes, starts, stops, clock, parts = session_market()
    noise = np.random.default_rng(0).normal(size=(len(parts), len(parts) // 20))
    faint = np.column_stack([parts, 1e-4 * parts.std() * noise])
    many = contribution_scores(closes, starts, stops, clock, faint)
    assert many["inactive"].tolist() == [False] * 3 + [True] * noise.shape[1]
    few = contribution_scores(closes, starts, stops, clock, faint[:, :8])
    assert not few["inactive"].any()


def test_more_sources_than_rows_allow_enter_as_one_sum(rng):
    columns = rng.normal(size=(400, 30)) * np.linspace(3, 1, 30)
    columns += rng.normal(size=(400, 1))
    columns = columns[:, np.argsort(-(columns**2).mean(axis=0))]
    nuisance = np.column_stack([np.ones(400), rng.normal(size=400)])
    found = _residualised(columns, nuisance)
    for j in (0, 17, 18, 29):  # of 400 / 20 - 2 = 18 single columns, the largest come first
        rest = [k for k in range(18, 30) if k != j]
        single = [k for k in range(18) if k != j]
        others = np.column_stack([columns[:, single], nuisance, columns[:, rest].sum(axis=1)])
        expected = columns[:, j] - others @ np.linalg.lstsq(others, columns[:, j])[0]
        np.testing.assert_allclose(found[:, j], expected, atol=1e-8)


@pytest.mark.parametrize("still", [0.0, 0.5])
def test_the_volatility_across_gaps_is_in_proportion_where_prices_stand_still(still, rng):
    moves = rng.normal(0, 0.01, 8000) * (rng.random(8000) >= still)
    closes = np.exp(np.cumsum(moves))
    closes[rng.random(8000) < 0.05] = np.nan
    first, returns, volatility = known_steps(closes)
    gap = np.diff(first, append=first[-1] + 1) > 1
    scaled = (returns / volatility) ** 2
    assert scaled[gap].mean() == pytest.approx(scaled[~gap].mean(), rel=0.5)


def test_one_sided_p_values_hold_their_size_under_fat_tails(rng):
    p, rows = [], np.arange(30, 2000)
    for _ in range(60):
        steps = 0.01 * rng.standard_t(3, size=2001)
        parts = 0.01 * rng.standard_t(3, size=(2001, 8))
        clock = 3600 * np.arange(2001)
        found = contribution_scores(np.exp(steps.cumsum()), rows, rows + 1, clock, parts[rows])
        p.extend(found["p_value"])
    assert 0.03 < (np.array(p) < 0.05).mean() < 0.07
