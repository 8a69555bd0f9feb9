"""Connectedness against statsmodels' VAR and the decomposition written as loops."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.api import VAR

from crossattn.evidence import connectedness


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(0)
    shocks = rng.normal(size=(600, 3)) @ np.array([[1, 0.3, 0], [0, 1, 0.2], [0, 0, 1]])
    path = np.zeros((600, 3))
    for t in range(2, 600):
        path[t] = 0.4 * path[t - 1] + 0.2 * path[t - 2] + shocks[t]
        path[t, 2] += 0.4 * path[t - 1, 0]
    return pd.DataFrame(path, columns=list("abc"))


def test_the_table_is_statsmodels_var_decomposed_by_loops(series):
    fit = VAR(series).fit(2)
    moving, covariance = fit.ma_rep(9), np.asarray(fit.sigma_u)
    wanted = np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        wanted[i, j] = sum((a[i] @ covariance[:, j]) ** 2 for a in moving) / covariance[j, j]
    wanted /= wanted.sum(axis=1, keepdims=True)
    found = connectedness(series, lags=2, horizon=10)
    np.testing.assert_allclose(found.table, wanted, rtol=1e-8)
    assert found.directional["net"].idxmax() == "a" and found.directional["net"].sum() < 1e-12
    assert found.total == pytest.approx(1 - np.diag(wanted).mean())


def test_the_order_of_the_series_does_not_matter(series):
    turned = connectedness(series[["c", "a", "b"]]).table
    pd.testing.assert_frame_equal(turned.loc[list("abc"), list("abc")], connectedness(series).table)


def test_what_cannot_be_decomposed_is_refused(series, refuse_input):
    infinite = series.replace(series.iloc[3, 0], np.inf)
    refuse_input(lambda: connectedness(series[["a"]]), "series must have two columns")
    refuse_input(lambda: connectedness(series[:8]), "complete rows")
    refuse_input(lambda: connectedness(series, lags=0), "lags")
    refuse_input(lambda: connectedness(infinite), "finite")
    for still in (0.0, -4.7, np.arange(600.0)):
        refuse_input(lambda still=still: connectedness(series.assign(b=still)), "shocks, got .* b")
    refuse_input(lambda: connectedness(series.to_numpy()), "series must be a DataFrame")
    refuse_input(lambda: connectedness(series.astype(str) + "x"), "series must be numbers")
