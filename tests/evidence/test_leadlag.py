"""Lead-lag report: planted pairs are significant, idle ones are not, for every kind of model."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import lfilter
from standin.windows import simulated_windows

from crossattn import (
    CrossAttentionForecaster,
    CrossAttentionMultiAsset,
    analyze_lead_lag_relationships,
    predict,
    simulate_market,
)
from crossattn.baselines.linear import VAR
from crossattn.baselines.naive import OwnLagAR, Zero
from crossattn.evidence import leadlag
from crossattn.evidence.contributions import Contributions, measure_contributions
from crossattn.evidence.leadlag import contribution_test, make_report
from crossattn.windows.prepare import windows_of_features

COLUMNS = [
    *("leader", "follower", "lag", "effect", "p_value", "q_value", "significant"),
    *("channel", "n_effective", "tested", "gross_gain", "break_even_cost"),
    *("tradable_share", "tradable", "note"),
]


def windows(scenario="static", n_assets=5, n_steps=8000, predictability=0.04):
    options = {"n_assets": n_assets, "n_steps": n_steps, "predictability": predictability}
    market, data = simulated_windows(scenario, lookback=9, seed=4, **options)
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


def test_planted_pairs_are_significant_with_lag_and_sign_and_size(planted, report):
    """Sizes are in standard deviations of both."""
    market, _, _, test = planted
    edges, rows = truth(market), report.details.set_index(["leader", "follower"])
    named = rows[rows["significant"]]
    assert edges.keys() <= set(named.index) and len(named) - len(edges) <= 1
    spread = dict(zip(test.symbols, np.nanstd(test.bar_returns, axis=0), strict=True))
    for (leader, follower), edge in edges.items():
        row = rows.loc[(leader, follower)]
        assert row["lag"] == edge.lag
        assert np.sign(row["effect"]) == np.sign(edge.strength)
        expected = edge.strength * spread[leader] / spread[follower]
        assert row["effect_low"] - 0.03 < expected < row["effect_high"] + 0.03
        assert row["effect_low"] <= row["effect"] <= row["effect_high"]


def test_an_effect_counts_the_bars_that_exist(planted, lasso):
    """Two fifths of a leader's bars are missing: its deviation is that of the others."""
    test = planted[3]
    arrays = {name: np.array(getattr(test, name)) for name in ("panel", "targets", "closes")}
    gone = np.arange(len(test.closes)) % 500 < 200
    for values in arrays.values():
        values[gone, 0] = np.nan
    cut = replace(test, **arrays)
    found = measure_contributions(lasso, cut)
    lag = found.lag[1, 0]
    returns = cut.panel[cut.ends - lag + 1, 0, 0]
    slope = lasso.coefficient_[1, 0, lag - 1]
    # named on 2000 windows of the 3196, over which the deviation is taken
    assert found.response[1, 0] == pytest.approx(slope * np.nanstd(returns), rel=0.1)
    row = contribution_test(found, cut).details.set_index(["leader", "follower"])
    row = row.loc[(test.symbols[0], test.symbols[1])]
    expected = found.response[1, 0] * row["slope"] / np.nanstd(cut.y[:, 1])
    assert row["effect"] == pytest.approx(expected, rel=1e-9)


def test_columns_ranges_and_order(report):
    edges = report.edges
    assert list(edges.columns) == COLUMNS
    assert len(edges) == 5 * 4
    assert (edges["leader"] != edges["follower"]).all()
    assert edges[["p_value", "q_value"]].map(lambda v: 0 <= v <= 1).all(axis=None)
    assert edges["p_value"].is_monotonic_increasing
    assert (edges["significant"] == (edges["q_value"] <= report.alpha)).all()
    assert (edges["channel"] == "return").all() and edges.notna().all(axis=None)
    claimed = report.details["tested"] & ~report.details["inactive"]
    assert (edges["q_value"][claimed] >= edges["p_value"][claimed]).all()
    assert (report.details.loc[~claimed, ["p_value", "q_value"]] == 1).all(axis=None)
    assert report.matrix().shape == (5, 5)
    assert (report.leadership[["leads", "follows"]].sum() == edges["significant"].sum()).all()
    assert list(report.leadership.index) == list(report.symbols)
    assert abs(report.leadership["net"].sum()) < 1e-9


def test_ablation_agrees_with_the_reported_contributions(planted, lasso):
    test = planted[3][:900]
    predicts_only = SimpleNamespace(symbols_=lasso.symbols_, predict=lasso.predict)
    reported, found = (measure_contributions(m, test) for m in (lasso, predicts_only))
    spread = reported.total.std(axis=0)
    np.fill_diagonal(spread, 0.0)
    for i, j in np.argwhere(spread > 1e-5):
        assert np.corrcoef(reported.total[:, i, j], found.total[:, i, j])[0, 1] > 0.999
        assert reported.lag[i, j] == found.lag[i, j]
        assert reported.response[i, j] == pytest.approx(found.response[i, j], rel=0.1)


@pytest.mark.parametrize("lookback", [2, 9])  # shorter than the distance of windows, and as long
def test_single_lags_are_ablated_on_few_windows(lookback):
    _, data = simulated_windows("static", lookback=lookback, n_assets=2, n_steps=2500)
    options = {"preset": "encoder", "d_model": 8, "n_heads": 1, "n_layers": 1, "seed": 0}
    network, predicted = CrossAttentionMultiAsset(2, len(data.features), **options), []

    def predict_and_count(windows):
        predicted.append(len(windows))
        assert len(windows) < 600 or len(windows) == len(data)
        return predict(network, windows)

    counted = SimpleNamespace(symbols_=data.symbols, predict=predict_and_count)
    ours, theirs = (measure_contributions(m, data) for m in (network, counted))
    assert predicted.count(len(data)) == 3
    np.testing.assert_array_equal(ours.total, theirs.total)
    np.testing.assert_array_equal(ours.response, theirs.response)


@pytest.fixture(scope="module")
def two_models():
    """A forecaster, and a network of the lag preset with drawn weights, on one small market."""
    market, train, val, test = windows(n_assets=4, n_steps=3000, predictability=0.1)
    options = {"max_lag": 7, "n_models": 1, "epochs": 2, "progress": False, "device": "cpu"}
    forecaster = CrossAttentionForecaster(**options).fit(train, val)
    network = CrossAttentionMultiAsset(
        4, 1, preset="lag", symbols=market.symbols, features=["log_return"], lookback=9, horizon=1
    )
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return market, test, forecaster, network


@pytest.mark.parametrize("which", [2, 3])
def test_the_order_of_symbols_changes_nothing(two_models, which):
    market, test, model = two_models[0], two_models[1], two_models[which]
    order = [market.symbols[k] for k in (2, 0, 3, 1)]
    first, second = (
        analyze_lead_lag_relationships(model, data).edges.set_index(["leader", "follower"])
        for data in (test, test.select(symbols=order))
    )
    numbers = ["lag", "effect", "p_value", "q_value", "n_effective", "break_even_cost"]
    np.testing.assert_allclose(second.loc[first.index, numbers], first[numbers], rtol=1e-3)
    assert (first["p_value"] < 1).sum() >= 4
    if which == 2:
        assert first.index[0] in truth(market)


def test_followers_channels_and_lags_of_a_forecaster_agree(two_models):
    """What is asked of some followers is what all show, and the named token is the largest."""
    _, test, forecaster, _ = two_models
    test = test[:400]
    whole = forecaster.contributions(test, by_channel=True)  # (n, N, S, L, C)
    some = [part for part, _ in forecaster.contribution_batches(test, True, [2, 0])]
    np.testing.assert_allclose(np.concatenate(some), whole[:, [2, 0]], atol=1e-15)
    found = measure_contributions(forecaster, test)
    np.testing.assert_allclose(found.total, whole.sum(axis=(3, 4)), atol=1e-15)
    values = forecaster.channel_values(test)
    for i, j in [(0, 1), (3, 2)]:
        lag = found.lag[i, j] - 1
        every = [np.cov(part, found.total[:, i, j])[0, 1] for part in whole[:, i, j].sum(-1).T]
        assert lag == np.argmax(every)
        channel = forecaster.channels_.index(found.channel[i, j])
        token = values[test.ends - lag, j, channel]
        slope = np.polyfit(token, whole[:, i, j, lag, channel], 1)[0]
        assert found.response[i, j] == pytest.approx(slope * token.std(), rel=1e-3)


@pytest.mark.parametrize("make", [Zero, OwnLagAR])
def test_a_model_that_cannot_look_across_names_no_effect(planted, make):
    _, train, _, test = planted
    report = analyze_lead_lag_relationships(make().fit(train), test[:300])
    assert report.nobody_leads and "Nobody leads: none of 20 pairs" in str(report)
    assert (report.edges[["p_value", "q_value"]] == 1).all(axis=None)
    assert report.edges.notna().all(axis=None) and not report.edges["break_even_cost"].any()


def test_a_subset_of_symbols_keeps_the_others_as_controls(planted, lasso, report):
    few = list(report.symbols[:3])
    some = analyze_lead_lag_relationships(lasso, planted[3], few)
    part, whole = (r.edges.set_index(["leader", "follower"])["p_value"] for r in (some, report))
    assert len(part) == 6 and (part == whole.loc[part.index]).all()


def test_refusals(planted, lasso, refuse_input):
    test = planted[3]
    refuse_input(lambda: analyze_lead_lag_relationships(lasso, test, alpha=1.5), "alpha")
    refuse_input(lambda: analyze_lead_lag_relationships(lasso, test, ["X", "Y"]), "symbols")
    refuse_input(lambda: analyze_lead_lag_relationships(lasso, test.X), "CrossAttentionData")
    four = test.select(symbols=test.symbols[:4])
    refuse_input(
        lambda: analyze_lead_lag_relationships(lasso, four), "symbols must be .*; 'A04' differs"
    )
    refuse_input(lambda: analyze_lead_lag_relationships(object(), test), "predict or contribute")
    found = measure_contributions(lasso, test[:400])
    assert len(contribution_test(found, test[:400]).edges)
    for others in (test[50:450], test[:399], test[:400].select(symbols=test.symbols[1:])):
        refuse_input(lambda of=others: contribution_test(found, of), "measured must be contrib")
    refuse_input(lambda: contribution_test(found, test[:400], alpha=2), "alpha")
    refuse_input(lambda: contribution_test(test, test), "measured must be Contributions")


def test_report_draws_escapes_and_makes_a_graph(planted, report):
    ax = report.plot()
    assert "pairs significant" in ax.get_title() + ax.get_title(loc="left")
    assert set(report.graph().nodes) == set(report.symbols)
    assert report.graph().number_of_edges() == report.edges["significant"].sum()
    assert "<table" in report._repr_html_()


def test_own_past_is_controlled_for_where_the_model_does_not_use_it(rng):
    """Prices bounce, and by a common factor every asset's past is a proxy of the follower's own."""
    symbols, rows = tuple("ABCD"), 4000
    noise = rng.normal(size=(rows, 1)) + rng.normal(size=(rows, 4))
    returns = ar(noise, -0.3, 0.005)
    data = windows_of_returns(returns, symbols, 4, 1)
    newest = returns[data.ends]
    parts = np.repeat(-0.1 * newest[:, None, :], 4, axis=1)  # each uses the others' last return
    parts[:, np.arange(4), np.arange(4)] = 0.0
    assert contribution_test(measured(parts, data), data).nobody_leads


def test_long_horizons_hold_their_size_under_slow_contributions(rng):
    """Overlapping targets beside slow regressors: Newey-West errors reject at 1 % in 3 %."""
    symbols, rows, horizon = ("A", "B", "C", "D", "E", "F"), 1200, 24
    p = []
    for _ in range(40):
        volatility = 0.01 * np.exp(ar(rng.normal(size=(rows, 1)), 0.98, 0.2))
        returns = volatility * rng.standard_t(4, size=(rows, len(symbols)))
        data = windows_of_returns(returns, symbols, 2, horizon)
        slow = ar(rng.normal(size=(len(data), len(symbols), len(symbols))), 0.9, 0.001)
        edges = contribution_test(measured(slow, data), data).edges
        p.append(edges.loc[edges["tested"], "p_value"])
    p = np.concatenate(p)
    assert len(p) > 500 and 0.03 < (p < 0.05).mean() < 0.065
    assert (p < 0.01).mean() < 0.012


def test_targets_known_across_bars_that_never_are():
    """A symbol that trades at every second row: returns of one row are unknown, of four known."""
    market = simulate_market("null", n_assets=3, n_steps=1500, seed=2)
    closes = market.panel["close"].copy()
    closes.iloc[1::2, 0] = np.nan
    features = pd.concat({"log_return": np.log(closes).diff()}, axis=1)
    data = windows_of_features(features, closes, lookback=2, horizon=4, warm_up=1)
    slow = np.random.default_rng(0).normal(0, 0.001, (len(data), 3, 3))
    edges = contribution_test(measured(slow, data), data).edges
    followed = edges[edges["follower"] == data.symbols[0]]
    assert followed["p_value"].between(0.001, 0.999).all()


def test_pairs_without_enough_days_are_counted_apart(planted, lasso):
    """An asset that traded on few of the days cannot be followed; the others are tested."""
    test = planted[3]
    some = np.array(test.closes)
    some[test.ends[0] + 150 :, 2] = np.nan
    report = analyze_lead_lag_relationships(lasso, replace(test, closes=some))
    edges = report.edges
    untested = edges["follower"] == test.symbols[2]
    assert (edges["tested"] == ~untested).all()
    assert (edges.loc[untested, ["p_value", "q_value"]] == 1).all(axis=None)
    assert not edges.loc[untested, ["significant", "effect"]].any(axis=None)
    assert "16 tested, 4 not testable" in report.verdict and "significant" in report.verdict
    few = analyze_lead_lag_relationships(lasso, test[:30])
    assert few.nobody_leads and not few.edges["tested"].any()
    assert few.verdict.startswith("No pair could be tested: 20 not testable")
    assert few.edges.notna().all(axis=None)
    matrices = dict.fromkeys(("lag", "effect", "p_value"), np.ones((1, 1)))
    alone = make_report(("A",), alpha=0.05, method="", n_windows=9, **matrices)
    assert alone.verdict == "No pair could be tested: there is but one asset"


def test_repr_shows_each_pair_once():
    ones = dict.fromkeys(("lag", "effect", "p_value"), np.ones((2, 2)))
    report = make_report(("AA", "BB"), alpha=0.05, method="m", n_windows=9, **ones)
    assert repr(report).count("AA") == repr(report).count("BB") == 2


def test_break_even_cost_by_hand():
    closes = np.array([[100.0, 1], [110, 1], [np.nan, 1], [99, 1], [99, 1], [99, 1]])
    data = windows_of_returns(0 * closes, list("AB"), 1, 1, closes)
    parts = np.zeros((5, 2, 2))
    parts[:, 0, 1] = [0.3, -0.2, 0.5, -0.1, 0.0]
    edges = contribution_test(measured(parts, data), data).edges.set_index("leader")
    # +1 earns 10 %, -1 earns 10 % across the gap, kept for a flat bar, then out: 1 + 2 + 1 traded
    assert edges.loc["B", "break_even_cost"] == pytest.approx(0.2 / 4)
    assert edges.loc["A", "break_even_cost"] == 0


@pytest.mark.parametrize("horizon", [1, 3])
def test_gross_gain_is_the_mean_return_in_the_direction_of_the_contribution(horizon, rng):
    data = windows_of_returns(0.01 * rng.normal(size=(800, 4)), list("ABCD"), 9, horizon)
    parts = np.zeros((len(data), 4, 4))
    parts[:, 1, 0] = rng.normal(size=len(data)) * (np.arange(len(data)) % 5 > 0)
    edges = contribution_test(measured(parts, data), data).edges.set_index(["leader", "follower"])
    sign, close = np.sign(parts[:, 1, 0]), data.closes[:, 1]
    earned = sign * (close[data.ends + horizon] / close[data.ends] - 1)
    gain = np.mean(earned[sign != 0]) * 1e4
    assert edges.loc[("A", "B"), "gross_gain"] == pytest.approx(gain)
    assert edges.loc[("C", "B"), "gross_gain"] == 0 and not edges["tradable"].any()


class VolumeModel:
    """A's volume of two bars ago and the outside series of one bar ago move B; returns do not."""

    channels_ = ("return", "volume")

    def __init__(self, data, volume):
        self.symbols_ = data.symbols
        returns = np.column_stack([data.panel[:, :, 0], data.exogenous])
        self.values = np.stack([returns, np.pad(volume, ((0, 0), (0, 1)))], axis=2)

    def channel_values(self, data):
        return self.values.copy()

    def contribution_batches(self, data, by_channel, followers):
        for rows in np.array_split(np.arange(len(data)), 3):
            ends = data.ends[rows]
            parts = np.zeros((len(rows), 3, 4, 3, 2))  # (b, N, S, L, C)
            parts[:, 1, 0, 1, 1] = -0.002 * self.values[ends - 1, 0, 1]
            parts[:, 1, 0, 0, 0] = 0.01 * self.values[ends, 0, 0]
            parts[:, 1, 3, 0, 0] = 0.003 * self.values[ends, 3, 0]
            parts[:, 2, 0, 2, 0] = 0.01 * self.values[ends - 2, 0, 0]
            parts = parts[:, followers]
            yield (parts if by_channel else parts.sum(axis=4)), rows


def test_channel_lag_and_outside_series_are_named(monkeypatch, rng):
    rows, symbols = 3000, list("ABC")
    volume, outside = rng.normal(size=(rows, 3)), rng.normal(size=rows)
    returns = 0.01 * rng.normal(size=(rows, 3))
    returns[2:, 1] += -0.002 * volume[:-2, 0] + 0.003 * outside[1:-1]
    data = windows_of_returns(returns, symbols, 4, 1)
    data = replace(data, exogenous=outside[:, None], exogenous_names=("OIL",))
    model = VolumeModel(data, volume)
    report = analyze_lead_lag_relationships(model, data)
    edges = report.edges.set_index(["leader", "follower"])
    assert len(edges) == 3 * 2 + 3
    found = edges[edges["significant"]]
    assert set(found.index) == {("A", "B"), ("OIL", "B")}
    assert found.loc[("A", "B"), ["channel", "lag"]].tolist() == ["volume", 2]
    assert found.loc[("OIL", "B"), ["channel", "lag"]].tolist() == ["return", 1]
    # one standard deviation of volume is one, of B's return about .0106
    assert found.loc[("A", "B"), "effect"] == pytest.approx(-0.19, abs=0.05)
    assert found.loc[("OIL", "B"), "effect"] == pytest.approx(0.28, abs=0.05)
    assert (edges.loc[("C", "B"), "q_value"], edges.loc[("A", "C"), "lag"]) == (1.0, 3)
    assert report.matrix().shape == (3, 4) and list(report.leadership.index) == [*"ABC", "OIL"]
    assert "2 of 9 pairs" in report.plot().get_title(loc="left") + report.plot().get_title()
    part = analyze_lead_lag_relationships(model, data, ["OIL", "B"]).edges
    assert part[["leader", "follower"]].values.tolist() == [["OIL", "B"]]
    # followers are read one at a time where not more fit: nothing changes
    monkeypatch.setattr(leadlag, "GROUP_CELLS", 1)
    pd.testing.assert_frame_equal(
        analyze_lead_lag_relationships(model, data).edges, report.edges, check_exact=False
    )


def measured(total, data):
    """Contributions as if measured, each carried by the newest return."""
    shape = total.shape[1:]
    names = np.full(shape, "return")
    lag = np.ones(shape, int)
    return Contributions(total, lag, names, np.ones(shape), data.symbols, data.symbols)


def windows_of_returns(returns, symbols, lookback, horizon, closes=None):
    """Hourly windows of log returns; closes by default those that the returns make."""
    clock = pd.date_range("2024-01-01", periods=len(returns), freq="h", tz="UTC", name="close_time")
    closes = np.exp(returns.cumsum(axis=0)) if closes is None else closes
    table = pd.concat({"log_return": pd.DataFrame(returns, clock, symbols)}, axis=1)
    return windows_of_features(table, pd.DataFrame(closes, clock, symbols), lookback, horizon)


def ar(noise, persistence, size):
    return lfilter([size], [1, -persistence], noise, axis=0)
