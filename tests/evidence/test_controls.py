"""Controls: honest models fail without labels, leaks do not; leads turn round, fakes do not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crossattn import (
    align_panel,
    analyze_lead_lag_relationships,
    prepare_cross_attention_data,
    simulate_market,
)
from crossattn.baselines.linear import VAR
from crossattn.errors import InvalidInputError
from crossattn.evidence.controls import label_shuffle, reverse_time, shuffle_labels


def windows(frames):
    return prepare_cross_attention_data(frames, lookback=8, horizon=1, features=["log_return"])


@pytest.fixture(scope="module")
def market():
    return simulate_market(n_assets=4, n_steps=6000, predictability=0.08, seed=0)


def test_shuffle_moves_whole_rows_within_the_part(market):
    train, _, _ = windows(market.frames).split()
    wrong = shuffle_labels(train, seed=1)
    np.testing.assert_array_equal(np.sort(wrong.y, axis=0), np.sort(np.asarray(train.y), axis=0))
    same_row = {tuple(row) for row in np.asarray(train.y)}
    assert all(tuple(row) in same_row for row in wrong.y)
    assert (wrong.y != train.y).mean() > 0.99
    assert np.isnan(wrong.targets[train.ends[-1] + 1 :]).all()


def test_an_honest_model_loses_its_skill(market):
    control = label_shuffle(VAR, *windows(market.frames).split(), n_shuffles=6)
    assert control.score > 0.15
    assert np.abs(control.shuffled).max() < 0.1
    assert not control.leaks
    assert control.p_value == pytest.approx(1 / 7)


def test_a_model_that_saw_the_test_part_keeps_its_skill(market):
    train, val, test = windows(market.frames).split()

    class Cheat:
        def fit(self, train, val):
            return self

        def predict(self, data):
            noise = np.random.default_rng(0).normal(0, test.y.std(), data.y.shape)
            return data.y + 3 * noise

    control = label_shuffle(Cheat, train, val, test, n_shuffles=3)
    assert control.leaks
    with pytest.raises(InvalidInputError, match="n_shuffles"):
        label_shuffle(Cheat, train, val, test, n_shuffles=1)


def test_reversed_bars_are_bars_with_returns_backwards(market):
    frames = market.frames
    turned = reverse_time(frames)
    first = next(iter(frames))
    forth = np.log(frames[first]["close"] / frames[first]["open"]).to_numpy()
    back = np.log(turned[first]["close"] / turned[first]["open"]).to_numpy()
    np.testing.assert_allclose(back, -forth[::-1])
    assert (turned[first].index == frames[first].index).all()
    shifted = {s: f.assign(close_time=f.index + pd.Timedelta("61min")) for s, f in frames.items()}
    kept = reverse_time(shifted)[first]["close_time"]
    pd.testing.assert_series_equal(
        kept, shifted[first]["close_time"], check_names=False, check_freq=False
    )


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


def test_replace_keeps_the_panel(market):
    data = windows(market.frames)
    assert replace(shuffle_labels(data), targets=data.targets).panel is data.panel
