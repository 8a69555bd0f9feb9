"""Robust errors and q-values against statsmodels, and sizes on noise."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.multitest import multipletests

from crossattn.errors import InvalidInputError
from crossattn.evidence.inference import (
    benjamini_hochberg,
    clark_west,
    newey_west_lags,
    robust_mean_t,
    robust_regression,
)


def noise(n=400, k=3, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, k)) * [1.0, 1e-4, 30.0] + [0.0, 2.0, -5.0]
    scale = np.exp(generator.normal(size=n))
    y = x @ [0.3, 100.0, 0.0] + scale * generator.normal(size=n)
    return y, x, scale


@pytest.mark.parametrize("lags", [0, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_errors_equal_statsmodels(lags, weighted):
    y, x, scale = noise()
    weight = 1 / scale if weighted else np.ones(len(y))
    mine = robust_regression(y, x, scale=scale if weighted else None, lags=lags)
    options = {"maxlags": lags, "use_correction": True}
    theirs = sm.OLS(y * weight, sm.add_constant(x) * weight[:, None]).fit(
        cov_type="HAC", cov_kwds=options
    )
    np.testing.assert_allclose(mine.slope, theirs.params[1:], rtol=1e-8)
    np.testing.assert_allclose(mine.error, theirs.bse[1:], rtol=1e-6)
    wald = theirs.wald_test(np.eye(4)[[1, 3]], scalar=True, use_f=False)
    many = replace(mine, freedom=np.full(3, np.inf))
    np.testing.assert_allclose(many.wald([0, 2]), wald.pvalue, rtol=1e-5, atol=1e-12)


def test_leverage_correction_equals_statsmodels_hc3():
    y, x, _ = noise()
    mine = robust_regression(y, x, leverage=True)
    theirs = sm.OLS(y, sm.add_constant(x)).fit(cov_type="HC3")
    np.testing.assert_allclose(mine.error, theirs.bse[1:], rtol=1e-6)


def test_freedom_counts_the_rows_that_carry_the_error():
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(2, 2000))
    calm = robust_regression(y, x[:, None]).freedom[0]
    y[:10] *= 100
    wild = robust_regression(y, x[:, None]).freedom[0]
    assert 200 < calm < 1500  # 2 n / (kurtosis of x * y, about 9, minus 1)
    assert wild < 15


def test_a_joint_test_of_one_slope_is_its_t_test():
    y, x, _ = noise(n=60)
    fit = robust_regression(y, x, leverage=True)
    both = 2 * np.minimum(fit.p_positive, 1 - fit.p_positive)
    np.testing.assert_allclose([fit.wald([k]) for k in range(3)], both, rtol=1e-9)


def test_joint_tests_hold_their_size_where_rows_are_few():
    """Ten rows a slope, fat tails: by a chi-squared law 1.8 % of idle groups pass at 1 %."""
    generator = np.random.default_rng(8)
    p = []
    for _ in range(400):
        y, x = generator.standard_t(4, size=200), generator.standard_t(4, size=(200, 20))
        fit = robust_regression(y, x, lags=4, leverage=True)
        p.extend(fit.wald(range(start, start + 5)) for start in (0, 5, 10, 15))
    p = np.array(p)
    assert (p < 0.01).mean() < 0.016
    assert 0.02 < (p < 0.05).mean() < 0.065


def test_one_sided_p_values_hold_their_size_under_fat_tails():
    generator = np.random.default_rng(4)
    y = generator.standard_t(3, size=(400, 600))
    x = generator.standard_t(3, size=(400, 600))
    fits = [robust_regression(b, a[:, None], leverage=True) for a, b in zip(x, y, strict=True)]
    p = np.array([fit.p_positive[0] for fit in fits])
    assert 0.025 < (p < 0.05).mean() < 0.075


def test_mean_t_equals_the_regression_on_a_constant():
    y = noise()[0]
    theirs = sm.OLS(y, np.ones(len(y))).fit(cov_type="HAC", cov_kwds={"maxlags": 3})
    np.testing.assert_allclose(robust_mean_t(y, 3), theirs.tvalues[0], rtol=1e-10)


def test_q_values_equal_statsmodels():
    p = np.random.default_rng(1).uniform(size=(4, 5)) ** 2
    expected = multipletests(p.ravel(), method="fdr_bh")[1]
    np.testing.assert_allclose(benjamini_hochberg(p).ravel(), expected)
    with pytest.raises(InvalidInputError, match="p_values"):
        benjamini_hochberg([0.1, np.nan])


def test_clark_west_holds_its_size_and_finds_a_better_forecast():
    generator = np.random.default_rng(2)
    y = generator.normal(size=(400, 300))
    idle = 0.1 * generator.normal(size=(400, 300))
    p = [clark_west(a, 0 * b, b) for a, b in zip(y, idle, strict=True)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    assert clark_west(y[0] + 5 * idle[0], 0 * idle[0], 5 * idle[0]) < 1e-6


def test_newey_west_lags_cover_the_overlap():
    assert newey_west_lags(100) == 4
    assert newey_west_lags(100, horizon=24) >= 24


def test_a_constant_regressor_is_no_evidence():
    y, x, _ = noise()
    x = x.copy()
    x[:, 1] = 7.0
    fit = robust_regression(y, x)
    assert fit.t[1] == 0
    with pytest.raises(InvalidInputError, match="rows"):
        robust_regression(y[:4], x[:4])
