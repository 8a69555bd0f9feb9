"""Cross-sectional tables against SciPy, pandas and statsmodels."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from crossattn import analyze_cross_section, prepare_cross_attention_data, simulate_market
from crossattn.evidence.inference import long_run_settings
from crossattn.evidence.scores import score_forecasts


@pytest.fixture(scope="module")
def study():
    frames = simulate_market(n_assets=7, n_steps=400, seed=5).frames
    first = next(iter(frames))
    frames[first] = frames[first].iloc[90:]  # listed late
    data = prepare_cross_attention_data(frames, 8, 3, ["log_return"])
    rng = np.random.default_rng(0)
    forecast = np.nan_to_num(data.y) + rng.normal(0, 0.02, data.y.shape)
    forecast[5] = 0.01  # says nothing
    forecast[6, 3:] = np.nan  # too few
    forecast[7, 3] = np.nan
    return forecast, data, analyze_cross_section(forecast, data, n_quantiles=3, horizons=[1, 3, 6])


def test_correlations_are_scipys_row_by_row(study):
    forecast, data, report = study
    assert report.ic.index.equals(data.timestamps)
    assert report.ic[["pearson", "rank"]].iloc[5:7].isna().all(axis=None)
    for row in (0, 7, 200):
        known = np.isfinite(forecast[row]) & np.isfinite(data.y[row])
        a, b = forecast[row, known], data.y[row, known]
        assert report.ic["pearson"].iloc[row] == pytest.approx(stats.pearsonr(a, b).statistic)
        assert report.ic["rank"].iloc[row] == pytest.approx(stats.spearmanr(a, b).statistic)
        assert report.ic["n_assets"].iloc[row] == known.sum()


def test_means_and_errors_are_those_of_statsmodels(study):
    forecast, data, report = study
    for table, name, values in (
        (report.summary, "rank", report.ic["rank"].dropna()),
        (report.quantiles, "spread", spread_by_pandas(forecast, data.y)),
    ):
        lags, freedom, divisor = long_run_settings(len(values), 3)
        fit = sm.OLS(values.to_numpy(), np.ones(len(values)))
        fit = fit.fit(cov_type="HAC", cov_kwds={"maxlags": lags})
        widen = stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975) / divisor
        wanted = [fit.params[0], fit.bse[0] * widen, fit.tvalues[0] / widen, len(values)]
        found = table.loc[name, ["mean", "standard_error", "t", "n"]].tolist()
        assert found == pytest.approx(wanted)


def spread_by_pandas(forecast, returns):
    found = []
    for f, y in zip(forecast, returns, strict=True):
        pair = pd.DataFrame({"f": f, "y": y}).dropna()
        if len(pair) >= 3:
            group = pd.qcut(pair["f"].rank(method="first"), 3, labels=[1, 2, 3])
            mean = pair["y"].groupby(group, observed=True).mean()
            found.append(mean[3] - mean[1])
    return pd.Series(found)


def test_the_decay_uses_returns_from_the_same_close(study):
    forecast, data, report = study
    row = report.decay.loc[6]
    ends = data.ends[data.ends + 6 < len(data.closes)]
    later = data.closes[ends + 6] / data.closes[ends] - 1
    each = [
        stats.spearmanr(f[k], y[k]).statistic
        for f, y in zip(forecast, later, strict=False)
        if (k := np.isfinite(f) & np.isfinite(y)).sum() >= 3 and np.ptp(f[k]) > 0
    ]
    assert row["rank"] == pytest.approx(np.mean(each)) and row["n"] == len(each)
    assert report.decay.loc[3, "pearson"] == pytest.approx(report.summary.loc["pearson", "mean"])
    assert list(report.decay.index) == [1, 3, 6]


def test_the_error_covers_on_overlapping_noise():
    """On forecasts without skill, 95 % intervals miss 0 about one time in twenty."""
    missed = []
    for seed in range(40):
        frames = simulate_market("null", n_assets=6, n_steps=500, seed=seed).frames
        data = prepare_cross_attention_data(frames, 8, 6, ["log_return"])
        noise = np.random.default_rng(seed).normal(size=data.y.shape)
        forecast = pd.DataFrame(noise).rolling(20, min_periods=1).mean().to_numpy()
        missed.append(abs(analyze_cross_section(forecast, data).summary.loc["rank", "t"]) > 1.96)
    assert np.mean(missed) <= 0.2  # slow forecasts and few rows: t is a little too large


def test_a_perfect_forecast_has_no_error(study):
    _, data, _ = study
    perfect = analyze_cross_section(data.y, data, n_quantiles=2).summary
    np.testing.assert_allclose(perfect["mean"], 1)
    assert perfect[["standard_error", "t"]].isna().all(axis=None)


def test_a_row_that_does_not_vary_has_no_correlation(study, refuse_input):
    forecast, data, report = study
    flat = np.where(np.arange(len(data))[:, None] % 2, forecast, 0.1)
    ic = analyze_cross_section(flat, data).ic
    assert ic.iloc[::2][["pearson", "rank"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(ic.iloc[1::2], report.ic.iloc[1::2])
    same = np.full_like(forecast, 0.1)
    refuse_input(lambda: analyze_cross_section(same, data), "forecasts differ")
    assert np.isnan(score_forecasts({"flat": same}, data.y).loc["flat", "ic_error"])


def test_refuses_by_name(study, refuse_input):
    forecast, data, report = study
    assert "rank IC +" in repr(report) and "bp" in report._repr_html_()
    assert len(report.plot().patches) == 3
    refuse_input(lambda: analyze_cross_section(forecast[:-1], data), "forecast must have shape")
    refuse_input(lambda: analyze_cross_section(forecast, data, n_quantiles=1), "n_quantiles")
    far = {"horizons": [4000]}
    refuse_input(lambda: analyze_cross_section(forecast, data, **far), "no window has 4000 bars")
    refuse_input(lambda: analyze_cross_section(forecast, forecast), "data must be")
