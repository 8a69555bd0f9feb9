"""Lead-lag report: planted pairs are significant, idle ones are not, for every kind of model."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from crossattn import (
    CrossAttentionForecaster,
    analyze_lead_lag_relationships,
    prepare_cross_attention_data,
    simulate_market,
)
from crossattn.baselines.linear import VAR
from crossattn.baselines.naive import OwnLagAR, Zero
from crossattn.errors import InvalidInputError
from crossattn.evidence.contributions import Contributions, measure_contributions
from crossattn.evidence.leadlag import contribution_test
from crossattn.windows.dataset import windows_of_features

COLUMNS = ["leader", "follower", "lag", "effect", "p_value", "q_value", "significant"]


def windows(scenario="static", n_assets=5, n_steps=8000, seed=4, predictability=0.04):
    market = simulate_market(
        scenario, n_assets=n_assets, n_steps=n_steps, seed=seed, predictability=predictability
    )
    data = prepare_cross_attention_data(
        market.frames, lookback=9, horizon=1, features=["log_return"]
    )
    return market, *data.split(0.5, 0.1)


@pytest.fixture(scope="module")
def planted():
    return windows()


@pytest.fixture(scope="module")
def lasso(planted):
    _, train, val, _ = planted
    return VAR(penalty="lasso", volatility_weights=True).fit(train, val)


@pytest.fixture(scope="module")
def report(planted, lasso):
    return analyze_lead_lag_relationships(lasso, planted[3])


def truth(market):
    return {(e.leader, e.follower): e for e in market.edges.itertuples()}


def test_planted_pairs_are_significant_with_lag_and_sign(planted, report):
    edges = truth(planted[0])
    found = report.edges[report.edges["significant"]]
    pairs = set(zip(found["leader"], found["follower"], strict=True))
    assert set(edges) <= pairs
    assert len(pairs - set(edges)) <= 1
    for row in found.itertuples():
        if (row.leader, row.follower) in edges:
            edge = edges[row.leader, row.follower]
            assert row.lag == edge.lag
            assert np.sign(row.effect) == np.sign(edge.strength)


def test_effect_is_in_standard_deviations_of_both(planted, report):
    market, _, _, test = planted
    spread = dict(zip(test.symbols, np.nanstd(test.bar_returns, axis=0), strict=True))
    rows = report.details.set_index(["leader", "follower"])
    for (leader, follower), edge in truth(market).items():
        row = rows.loc[(leader, follower)]
        expected = edge.strength * spread[leader] / spread[follower]
        assert row["effect_low"] - 0.03 < expected < row["effect_high"] + 0.03
        assert row["effect_low"] <= row["effect"] <= row["effect_high"]


def test_an_effect_counts_the_bars_that_exist(planted, lasso):
    """Two fifths of a leader's bars are missing: its deviation is that of the others."""
    test = planted[3]
    whole, holed = np.array(test.panel), np.array(test.next_returns)
    gone = np.arange(len(holed)) % 500 < 200
    whole[gone, 0], holed[gone, 0] = np.nan, np.nan
    cut = replace(test, panel=whole, next_returns=holed)
    measured = replace(measure_contributions(lasso, cut), slope=np.full((5, 5, 8), 0.1))
    row = contribution_test(measured, cut).details.set_index(["leader", "follower"])
    row = row.loc[(test.symbols[0], test.symbols[1])]
    spread = np.nanstd(cut.bar_returns, axis=0)
    assert row["effect"] == pytest.approx(0.1 * row["slope"] * spread[0] / spread[1], rel=1e-9)


def test_columns_ranges_and_order(report):
    edges = report.edges
    assert list(edges.columns) == COLUMNS
    assert len(edges) == 5 * 4
    assert (edges["leader"] != edges["follower"]).all()
    assert edges[["p_value", "q_value"]].map(lambda v: 0 <= v <= 1).all(axis=None)
    assert edges["p_value"].is_monotonic_increasing
    assert (edges["significant"] == (edges["q_value"] <= report.alpha)).all()
    assert report.matrix().shape == (5, 5)
    assert report.leadership["leads"].sum() == edges["significant"].sum()
    assert report.leadership["follows"].sum() == edges["significant"].sum()
    assert list(report.leadership.index) == list(report.symbols)
    assert abs(report.leadership["net"].sum()) < 1e-9


def test_ablation_agrees_with_the_reported_contributions(planted, lasso):
    test = planted[3][:900]

    class PredictOnly:
        symbols_ = lasso.symbols_
        predict = staticmethod(lasso.predict)

    reported, found = measure_contributions(lasso, test), measure_contributions(PredictOnly, test)
    spread = reported.total.std(axis=0)
    for i in range(5):
        for j in range(5):
            if i != j and spread[i, j] > 1e-5:
                both = reported.total[:, i, j], found.total[:, i, j]
                assert np.corrcoef(*both)[0, 1] > 0.999
                assert reported.by_lag[i, j].argmax() == found.by_lag[i, j].argmax()


def test_forecaster_and_network_give_a_report_in_any_order_of_symbols():
    market, train, val, test = windows(n_assets=4, n_steps=3000, predictability=0.1)
    forecaster = CrossAttentionForecaster(n_models=1, epochs=4, progress=False, device="cpu").fit(
        train, val
    )
    order = [market.symbols[k] for k in (2, 0, 3, 1)]
    reports = [
        analyze_lead_lag_relationships(model, data)
        for model in (forecaster, forecaster.models_[0])
        for data in (test, test.select(symbols=order))
    ]
    for other in reports[1:]:
        np.testing.assert_allclose(
            other.edges["p_value"], reports[0].edges["p_value"], rtol=1e-3, atol=1e-9
        )
    top = reports[0].edges.iloc[0]
    assert (top["leader"], top["follower"]) in truth(market)


def test_nobody_leads_on_a_null_market():
    _, train, _, test = windows("null", n_steps=4000)
    assert analyze_lead_lag_relationships(VAR().fit(train), test).nobody_leads


@pytest.mark.parametrize("make", [Zero, OwnLagAR])
def test_a_model_that_cannot_look_across_is_untestable_not_nan(planted, make):
    _, train, _, test = planted
    report = analyze_lead_lag_relationships(make().fit(train), test[:300])
    assert report.nobody_leads
    assert (report.edges["p_value"] == 1).all()
    assert report.edges.notna().all(axis=None)


def test_a_subset_of_symbols_keeps_the_others_as_controls(planted, lasso, report):
    few = list(report.symbols[:3])
    part = analyze_lead_lag_relationships(lasso, planted[3], few)
    assert len(part.edges) == 6
    whole = report.edges.set_index(["leader", "follower"])["p_value"]
    for row in part.edges.itertuples():
        assert row.p_value == whole[row.leader, row.follower]


def test_refusals(planted, lasso):
    test = planted[3]
    with pytest.raises(InvalidInputError, match="alpha"):
        analyze_lead_lag_relationships(lasso, test, alpha=1.5)
    with pytest.raises(InvalidInputError, match="symbols"):
        analyze_lead_lag_relationships(lasso, test, ["X", "Y"])
    with pytest.raises(InvalidInputError, match="CrossAttentionData"):
        analyze_lead_lag_relationships(lasso, np.zeros((3, 5, 9, 1)))
    with pytest.raises(InvalidInputError, match="knows"):
        analyze_lead_lag_relationships(lasso, test.select(symbols=test.symbols[:4]))
    with pytest.raises(InvalidInputError, match="predict or contribute"):
        analyze_lead_lag_relationships(object(), test)


def test_report_draws_escapes_and_makes_a_graph(planted, report):
    ax = report.plot()
    assert "pairs significant" in ax.get_title() + ax.get_title(loc="left")
    assert set(report.graph().nodes) == set(report.symbols)
    assert report.graph().number_of_edges() == report.edges["significant"].sum()
    assert "<table" in report._repr_html_()


def test_own_past_is_controlled_for_where_the_model_does_not_use_it():
    """Prices bounce, and by a common factor every asset's past is a proxy of the follower's own."""
    generator = np.random.default_rng(5)
    symbols, rows = tuple("ABCD"), 4000
    noise = generator.normal(size=(rows, 1)) + generator.normal(size=(rows, 4))
    returns = ar(noise, -0.3, 0.005)
    clock = pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC", name="close_time")
    data = windows_of_features(
        pd.concat({"log_return": pd.DataFrame(returns, clock, symbols)}, axis=1),
        pd.DataFrame(np.exp(returns.cumsum(axis=0)), clock, symbols),
        lookback=4,
        horizon=1,
    )
    newest = returns[data.ends]
    parts = np.repeat(-0.1 * newest[:, None, :], 4, axis=1)  # each uses the others' last return
    parts[:, np.arange(4), np.arange(4)] = 0.0
    lags = np.repeat(np.array([[[1.0, 0.0, 0.0]]]), 4, axis=0).repeat(4, axis=1)
    assert contribution_test(Contributions(parts, lags, -0.1 * lags, symbols), data).nobody_leads


def test_clark_west_does_not_credit_a_source_with_what_its_neighbours_got_wrong():
    """Errors of correlated sources cancel: against the bare rest, one in two idle ones "helps"."""
    p = []
    for seed in range(12):
        _, train, val, test = windows("factor", seed=seed, n_steps=4000)
        p.append(analyze_lead_lag_relationships(VAR().fit(train, val), test).details["clark_west"])
    assert 0.01 < (np.concatenate(p) < 0.05).mean() < 0.1


def test_long_horizons_hold_their_size_under_slow_contributions():
    """Overlapping targets beside slow regressors: Newey-West rejects at 1 % in 3 % of cases."""
    generator = np.random.default_rng(7)
    symbols, rows, horizon = ("A", "B", "C", "D", "E", "F"), 1200, 24
    p = []
    for _ in range(40):
        volatility = 0.01 * np.exp(ar(generator.normal(size=(rows, 1)), 0.98, 0.2))
        returns = volatility * generator.standard_t(4, size=(rows, len(symbols)))
        clock = pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC", name="close_time")
        data = windows_of_features(
            pd.concat({"log_return": pd.DataFrame(returns, clock, symbols)}, axis=1),
            pd.DataFrame(np.exp(returns.cumsum(axis=0)), clock, symbols),
            lookback=2,
            horizon=horizon,
        )
        slow = ar(generator.normal(size=(len(data), len(symbols), len(symbols))), 0.9, 0.001)
        lags = np.ones((len(symbols), len(symbols), 1))
        measured = Contributions(slow, lags, lags, symbols)
        p.append(contribution_test(measured, data).edges["p_value"])
    p = np.concatenate(p)
    assert 0.03 < (p < 0.05).mean() < 0.065
    assert (p < 0.01).mean() < 0.017


def test_targets_known_across_bars_that_never_are():
    """A symbol that trades at every second row: returns of one row are unknown, of four known."""
    market = simulate_market("null", n_assets=3, n_steps=1500, seed=2)
    closes = market.panel["close"].copy()
    closes.iloc[1::2, 0] = np.nan
    features = pd.concat({"log_return": np.log(closes).diff()}, axis=1)
    data = windows_of_features(features, closes, lookback=2, horizon=4, warm_up=1)
    slow = np.random.default_rng(0).normal(0, 0.001, (len(data), 3, 3))
    lags = np.ones((3, 3, 1))
    edges = contribution_test(Contributions(slow, lags, lags, data.symbols), data).edges
    followed = edges[edges["follower"] == data.symbols[0]]
    assert followed["p_value"].between(0.001, 0.999).all()


def ar(noise, persistence, size):
    return lfilter([size], [1, -persistence], noise, axis=0)
