"""Surrogate refits tell planted pairs from luck; shuffled labels and reversed time are controls."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from standin.windows import flat_bars

from crossattn import (
    CrossAttentionForecaster,
    align_panel,
    analyze_lead_lag_relationships,
    prepare_cross_attention_data,
    simulate_market,
)
from crossattn.baselines.covariance import CovarianceForecaster
from crossattn.baselines.linear import VAR
from crossattn.baselines.volatility import HAR
from crossattn.evidence.nulls import (
    label_shuffle,
    reverse_time,
    shuffle_labels,
    surrogate_null,
    surrogate_part,
)
from crossattn.windows.dataset import CrossAttentionData

PLANTED = {("S0", "S1"), ("S2", "S3")}
COLUMNS = ["leader", "follower", "statistic", "p_value", "q_value", "significant", "tested"]


def ridge():
    return VAR(max_lag=3, penalty="ridge")


def windows(frames):
    return prepare_cross_attention_data(frames, lookback=8, horizon=1, features=["log_return"])


def split(frames):
    features = ["log_return", "volatility"]
    return prepare_cross_attention_data(frames, 5, 1, features).split(0.5, 0.1)


def idle(n_assets=3):
    return split(simulate_market("null", n_assets=n_assets, n_steps=2000, seed=1).frames)


@pytest.fixture(scope="module")
def planted():
    """Four random walks; S0 leads S1 by one bar, S2 leads S3 by three, against its sign."""
    noise = np.random.default_rng(7).normal(0, 0.01, (2000, 4))
    returns = noise.copy()
    returns[1:, 1] += 0.4 * noise[:-1, 0]
    returns[3:, 3] -= 0.4 * noise[:-3, 2]
    closes = 100 * np.exp(returns.cumsum(axis=0))
    return split(flat_bars(closes, ["S0", "S1", "S2", "S3"]))


@pytest.fixture(scope="module")
def found(planted):
    return surrogate_null(ridge, *planted)


def rows_of(part):
    return slice(part.ends[0], part.ends[-1] + 1)


def shifts(part, moved, name="panel"):
    """Return the row of the part at which the rotated table of each source begins."""
    before, after = getattr(part, name)[rows_of(part)], getattr(moved, name)
    turns = [np.roll(before, -shift, axis=0) for shift in range(len(part))]
    axes = (1, *range(3, before.ndim + 1))
    equal = np.isclose(turns, after, rtol=0, atol=0, equal_nan=True).all(axis=axes)  # (rows, N)
    assert equal.any(axis=0).all()
    return equal.argmax(axis=0).tolist()


def test_planted_pairs_reach_the_smallest_p_value(found):
    edges = found.edges
    assert list(edges.columns) == COLUMNS
    assert len(edges) == 12
    assert found.statistics.shape == (19, 12)
    stand = edges[edges["significant"]]
    assert set(zip(stand["leader"], stand["follower"], strict=True)) == PLANTED
    assert (stand["p_value"] == 1 / 20).all() and (stand["q_value"] < 0.05).all()
    assert not found.nobody_leads
    values = found.statistics.to_numpy()
    assert abs(values.mean()) < 0.4, "statistics of surrogates are those of idle pairs"
    assert 0.7 < values.std() < 1.4


def test_p_values_count_the_largest_statistic_of_each_surrogate(found):
    for row in found.edges.itertuples():
        reached = sum(max(draw) >= row.statistic for draw in found.statistics.to_numpy())
        assert row.p_value == pytest.approx((1 + reached) / 20)


def test_no_leader_is_named_on_a_null_market():
    null = surrogate_null(ridge, *idle(n_assets=4))
    assert null.nobody_leads
    assert "Nobody leads" in str(null)


def test_what_could_not_be_tested_is_counted_apart(market):
    data = windows(market.frames)[:900]
    bare = CrossAttentionData.from_arrays(np.array(data.X), data.y, features=data.features)
    gone = data.closes.copy()
    gone[600:, 1] = np.nan  # delisted
    few = {"n_surrogates": 4, "alpha": 0.2}
    for whole, untested in ((bare, 12), (replace(data, closes=gone), 3)):
        parts = whole[:500], whole[500:600], whole[620:]
        null = surrogate_null(ridge, *parts, **few)
        edges = null.edges[~null.edges["tested"]]
        assert len(edges) == untested and f"{untested} not testable" in null.verdict
        assert (edges[["p_value", "q_value"]] == 1).all(axis=None)
    assert "Nobody leads" not in str(surrogate_null(ridge, bare[:500], None, bare[500:], **few))


def test_a_rotation_keeps_an_asset_and_what_belongs_to_it(planted):
    part = planted[0]
    moved = surrogate_part(part, np.random.default_rng(0))
    places = shifts(part, moved)
    assert places == shifts(part, moved, "targets") == shifts(part, moved, "next_returns")
    assert len(set(places)) == len(part.symbols)
    assert len(moved) == len(part) - part.lookback + 1


def test_exogenous_series_and_bar_volatilities_move_with_their_source():
    market = simulate_market("null", n_assets=2, n_steps=900, seed=1)
    table = pd.DataFrame({"x": np.arange(900.0), "z": -np.arange(900.0)}, market.panel.index)
    data = prepare_cross_attention_data(
        market.frames, 5, 1, exogenous=table, volatility_estimator="parkinson"
    )
    part = data.split()[1]
    moved = surrogate_part(part, np.random.default_rng(0))
    places = shifts(part, moved)
    assert places == shifts(part, moved, "bar_volatilities")
    both = {*places, *shifts(part, moved, "exogenous")}
    assert len(both) == 4, "no two sources together, exogenous ones neither"
    same = surrogate_part(part, None)
    np.testing.assert_array_equal(same.exogenous, part.exogenous[rows_of(part)])


@pytest.mark.parametrize("target", ["return", "volatility"])
def test_an_exogenous_leader_is_found(target):
    market = simulate_market("null", n_assets=2, n_steps=2000, seed=1)
    following = np.append(market.returns[1:, 0], 0.0)
    known = np.abs(following) if target == "volatility" else following
    noisy = known / known.std() + np.random.default_rng(0).normal(size=2000)
    table = pd.DataFrame({"x": noisy}, market.panel.index)
    parts = prepare_cross_attention_data(market.frames, 5, 1, exogenous=table).split()

    def forecaster():
        parts = {"varying": False, "content": False, "progress": False}
        return CrossAttentionForecaster(2, target=target, **parts)

    null = surrogate_null(forecaster, *parts, n_surrogates=4, alpha=0.2)
    first = null.edges.iloc[0]
    assert (first["leader"], first["follower"], first["p_value"]) == ("x", "A00", 0.2)
    assert null.statistics["x", "A00"].max() < 3


def test_no_two_assets_are_rotated_to_nearly_the_same_place(planted):
    part = planted[1]
    n_rows, first = len(part), part.panel[rows_of(part)][:, :, 0]
    for seed in range(200):
        moved = surrogate_part(part, np.random.default_rng(seed)).panel[0, :, 0]
        place = [int(np.flatnonzero(first[:, k] == value)[0]) for k, value in enumerate(moved)]
        apart = np.subtract.outer(place, place) % n_rows
        apart = apart[~np.eye(len(place), dtype=bool)]
        assert apart.min() >= part.lookback + part.horizon, "what is shared would become a lead"


def test_without_a_generator_the_windows_are_the_real_ones(planted):
    part = planted[1]
    same = surrogate_part(part, None)
    kept = part[part.lookback - 1 :]
    np.testing.assert_array_equal(same.X, kept.X)
    np.testing.assert_array_equal(same.y, kept.y)
    assert same.timestamps.equals(kept.timestamps)


def test_models_are_fitted_on_the_surrogates_of_their_own_part():
    parts = idle()
    seen = []

    class Spy(VAR):
        def fit(self, train, val=None):
            seen.append((train, val))
            return super().fit(train, val)

    surrogate_null(lambda: Spy(max_lag=1), *parts, n_surrogates=4, alpha=0.2)
    assert len(seen) == 5
    for fitted in seen:
        for mine, part in zip(fitted, parts, strict=False):
            own = part.panel[rows_of(part), :, 0]
            np.testing.assert_array_equal(np.sort(mine.panel[..., 0], 0), np.sort(own, 0))
            assert mine.timestamps[-1] == part.timestamps[-1]
    assert not np.array_equal(seen[1][0].panel, seen[2][0].panel)


def test_seeds_decide_and_jobs_do_not():
    parts = idle()
    few = {"n_surrogates": 4, "alpha": 0.2}
    first = surrogate_null(ridge, *parts, **few)
    pd.testing.assert_frame_equal(first.edges, surrogate_null(ridge, *parts, **few).edges)
    other = surrogate_null(ridge, *parts, seed=1, **few)
    assert not np.allclose(first.statistics, other.statistics)
    found, again = (np.sort(null.edges["statistic"]) for null in (first, other))
    np.testing.assert_array_equal(found, again)
    with parallel_config(backend="threading"):
        parallel = surrogate_null(ridge, *parts, n_jobs=2, **few)
    pd.testing.assert_frame_equal(first.statistics, parallel.statistics)


def test_the_page_shows_no_markup_of_names():
    market = simulate_market("null", n_assets=3, n_steps=600, seed=0)
    frames = dict(zip(["<script>x</script>", "B", "C"], market.frames.values(), strict=True))
    parts = windows(frames).split()
    null = surrogate_null(lambda: VAR(max_lag=1), *parts, n_surrogates=4, alpha=0.2)
    assert "<script>" not in null._repr_html_()


def test_bad_arguments_are_named(planted, refuse):
    train, val, test = planted
    refuse(lambda: surrogate_null(ridge(), *planted), "make_model")
    refuse(lambda: surrogate_null(ridge, *planted, n_surrogates=18), "n_surrogates.*19")
    refuse(lambda: surrogate_null(ridge, *planted, seed=-1), "seed")
    refuse(lambda: surrogate_null(ridge, *planted, n_jobs=0), "n_jobs")
    refuse(lambda: surrogate_null(lambda: None, *planted), "make_model .* got NoneType")
    refuse(lambda: label_shuffle(lambda: None, *planted), "make_model .* got NoneType")
    refuse(lambda: surrogate_null(ridge, train.panel, val, test), "train")
    refuse(lambda: surrogate_null(ridge, train, val[:14], test), "val.*15 windows")
    refuse(lambda: surrogate_null(ridge, test, val, train), "val must be later than train")


@pytest.fixture(scope="module")
def market():
    return simulate_market(n_assets=4, n_steps=6000, predictability=0.08, seed=0)


@pytest.mark.parametrize("name", ["targets", "next_returns"])
def test_shuffle_moves_whole_rows_within_each_part(market, name):
    parts = prepare_cross_attention_data(market.frames, 8, 4, ["log_return"]).split()[:2]
    wrong = shuffle_labels(*parts, seed=1)
    for part, other in zip(parts, wrong, strict=True):
        before, after = (getattr(each, name)[part.ends] for each in (part, other))
        assert sorted(map(tuple, after)) == sorted(map(tuple, before))
        assert (after != before).mean() > 0.99
        at = [np.flatnonzero((before == row).all(axis=1))[0] for row in after]
        assert np.mean(np.diff(at) == 1) > 0.7, "a block holds the four bars of a horizon"
        assert np.isnan(getattr(other, name)[parts[1].ends[-1] + 1 :]).all()
        assert other.panel is part.panel and other.closes is part.closes
    assert getattr(wrong[0], name) is getattr(wrong[1], name), "either part may be read for both"
    assert shuffle_labels(None) == (None,)


def test_an_honest_model_loses_its_skill(market):
    control = label_shuffle(VAR, *windows(market.frames).split(), n_shuffles=6)
    assert control.score > 0.15
    assert np.abs(control.shuffled).max() < 0.1
    assert not control.leaks
    assert control.p_value == pytest.approx(1 / 7)


@pytest.mark.parametrize("horizon", [1, 4])
def test_the_forecaster_loses_its_skill_and_what_forecasts_risk_is_refused(horizon, refuse):
    market = simulate_market("static", n_assets=3, n_steps=1500, predictability=0.1, seed=1)
    parts = prepare_cross_attention_data(market.frames, 8, horizon).split()

    def forecaster(**options):
        few = {"max_lag": 3, "n_models": 1, "epochs": 1, "progress": False}
        return CrossAttentionForecaster(**few, **options)

    control = label_shuffle(forecaster, *parts, n_shuffles=2)
    assert control.score > 0.1
    assert np.abs(control.shuffled).max() < 0.05
    for make in (HAR, CovarianceForecaster, lambda: forecaster(target="volatility")):
        refuse(lambda make=make: label_shuffle(make, *parts), "make_model .* returns, got [HC]")


def test_a_mean_return_that_no_shuffle_changes_is_no_skill(market):
    class Mean(VAR):
        def fit(self, train, val=None):
            self.mean = np.nanmean(train.y, axis=0)
            return self

        def predict(self, data):
            return np.tile(self.mean, (len(data), 1))

    drifting = {
        symbol: frame.mul(np.exp(1e-4 * k * np.arange(len(frame))), axis=0)
        for k, (symbol, frame) in enumerate(market.frames.items())
    }
    data = prepare_cross_attention_data(drifting, 8, 400, ["log_return"])
    control = label_shuffle(Mean, *data.split(), n_shuffles=2)
    assert control.score == control.shuffled.max() == 0 and not control.leaks


def test_a_model_that_saw_the_test_part_keeps_its_skill(market, refuse):
    train, val, test = windows(market.frames).split()

    class Cheat:
        def fit(self, train, val):
            return self

        def predict(self, data):
            noise = np.random.default_rng(0).normal(0, test.y.std(), data.y.shape)
            return data.y + 3 * noise

    control = label_shuffle(Cheat, train, val, test, n_shuffles=3)
    assert control.leaks
    refuse(lambda: label_shuffle(Cheat, train, val, test, n_shuffles=1), "n_shuffles")
    refuse(lambda: label_shuffle(Cheat, train, val, test, seed=-1), "seed")
    refuse(lambda: label_shuffle(Cheat(), train, val, test), "make_model")
    refuse(lambda: label_shuffle(Cheat, train, val.panel, test), "val")


def test_reversed_bars_are_bars_with_returns_backwards(market):
    frames = market.frames
    turned = reverse_time(frames)
    first = next(iter(frames))
    forth = np.log(frames[first]["close"] / frames[first]["open"]).to_numpy()
    back = np.log(turned[first]["close"] / turned[first]["open"]).to_numpy()
    np.testing.assert_allclose(back, -forth[::-1])
    assert (turned[first].index == frames[first].index).all()
    shifted = {s: f.assign(close_time=f.index + pd.Timedelta("61min")) for s, f in frames.items()}
    kept, given = (bars[first]["close_time"] for bars in (reverse_time(shifted), shifted))
    pd.testing.assert_series_equal(kept, given, check_names=False, check_freq=False)


def test_bars_that_were_simultaneous_stay_so_where_some_are_missing():
    frames = simulate_market("null", n_assets=2, n_steps=2000, seed=0).frames
    first, second = frames
    frames[first] = frames[first].drop(frames[first].index[[5, 300, 600, 900]])
    turned = reverse_time(frames)

    def together(bars):
        returns = np.log(align_panel(bars)["close"]).diff().dropna()
        return returns[first].corr(returns[second])

    assert together(turned) == pytest.approx(together(frames), abs=0.02)
    twice = reverse_time(turned)[first]
    pd.testing.assert_frame_equal(twice, frames[first], check_freq=False)


def test_a_true_lead_turns_round(market):
    def effects(frames):
        train, val, test = windows(frames).split(0.5, 0.1)
        model = VAR(penalty="lasso", volatility_weights=True).fit(train, val)
        return analyze_lead_lag_relationships(model, test).matrix().abs()

    planted = set(zip(market.edges["leader"], market.edges["follower"], strict=True))
    one_way = [(a, b) for a, b in planted if (b, a) not in planted]
    forth, back = effects(market.frames), effects(reverse_time(market.frames))
    for effect, sign in ((forth, 1), (back, -1)):
        led = [effect.loc[pair[::-1]] for pair in one_way]
        turned = [effect.loc[pair] for pair in one_way]
        assert sign * np.mean(led) > sign * (2.0**sign) * np.mean(turned)
