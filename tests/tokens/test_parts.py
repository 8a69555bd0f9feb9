"""Parts of the forecaster against slow loops and other libraries."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import lsq_linear
from sklearn.linear_model import Lasso

from crossattn.attention.content import ContentHeads
from crossattn.runtime import compiled
from crossattn.tokens import descent, linear_map, sparse
from crossattn.tokens.channels import (
    EVENTS,
    VOLATILITY_HALF_LIFE,
    Channel,
    TokenIndex,
    Tokenizer,
    distance_from_mean,
    recent_volatility,
)
from crossattn.tokens.memory import Memory, decayed_sum
from crossattn.tokens.mix import mix_weights
from crossattn.tokens.selection import relevance_regression
from crossattn.windows import lagged
from crossattn.windows.prepare import prepare_cross_attention_data


def two_channels(n_rows=60, n_sources=3, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(2, n_rows, n_sources)).astype(np.float32)
    return [
        Channel("return", "return", values[0], (1, 2, 3), 1.0),
        Channel("return", "late", values[0], (4, 5)),
        Channel("volume", "volume", values[1], (1, 2)),
    ]


def test_distance_is_price_minus_its_exponential_mean():
    returns = np.random.default_rng(0).normal(size=(300, 2)) / 100
    price, decay = np.cumsum(returns, 0), 0.5 ** (1 / 12)
    # a long flat past before the first row, so that pandas' mean has no start-up of its own
    padded = pd.DataFrame(np.concatenate([np.zeros((2000, 2)), price]))
    expected = (padded - padded.ewm(alpha=1 - decay, adjust=False).mean()).to_numpy()[2000:]
    assert np.allclose(distance_from_mean(returns, 12), expected, atol=1e-12)


def test_an_event_grows_from_none_to_all_between_two_sizes_of_a_move(rng):
    times = pd.date_range("2024-01-01", periods=700, freq="h", tz="UTC")
    close = {s: 50 * np.exp(np.cumsum(0.01 * rng.standard_t(4, 700))) for s in "AB"}
    frames = {
        s: pd.DataFrame(dict.fromkeys(["open", "high", "low", "close", "volume"], x), times)
        for s, x in close.items()
    }
    outside = pd.DataFrame({"x": rng.normal(3.0, 2.0, 700)}, times)
    data = prepare_cross_attention_data(
        frames, lookback=12, horizon=1, features=["log_return"], exogenous=outside
    )
    series = Tokenizer(max_lag=7).fit(data).series(data)
    recent = series.returns / recent_volatility(np.where(series.known, series.returns, np.nan))
    usual = series.returns / [*np.nanstd(data.panel[data.ends, :, 0], axis=0), 1.0]
    moves = {"sd": usual, "vol": recent}
    events = {c.name: c for c in series.channels if c.family in EVENTS}
    assert len(events) == 8
    for name, channel in events.items():
        direction, scale = name.split("_")
        x = moves[scale[1:]] * (1 if direction == "rise" else -1)
        expected = np.interp(x, EVENTS[scale], [0.0, 1.0]) * (1 if direction == "rise" else -1)
        np.testing.assert_allclose(channel.values, expected, atol=1e-6)
        assert channel.lags == tuple(range(1, 9)) and channel.values.std() > 0


def test_blocks_of_training_are_forecast_by_regressions_of_all_other_rows(rng):
    index = TokenIndex(two_channels(2000, seed=4))
    target = 0.1 * rng.normal(size=(2000, 3))
    target[4:, 0] += 0.05 * index.channels[0].values[2:-2, 2]
    train, val, ones = np.arange(10, 1500), np.arange(1500, 1600), np.ones_like(target)
    both = np.concatenate([train, val])
    folds = [(np.setdiff1d(both, block), block) for block in np.array_split(train, 3)]
    fit = sparse.SparseRegressions(index).fit(target, ones, train, val, *folds)
    rows, unseen = folds[1]
    changed = target.copy()
    changed[unseen] += 1.0
    again = sparse.SparseRegressions(index)
    again.fit(changed, ones, rows, unseen)
    for name, forecasts in fit.held_out.items():
        assert forecasts.shape == (len(both), 3)
        np.testing.assert_array_equal(forecasts[-100:], fit.first[name].forecast(index, val))
        found = forecasts[np.isin(both, unseen)]
        assert np.corrcoef(found[:, 0], target[unseen, 0])[0, 1] > 0.3
        if name == "returns":  # one penalty, chosen on all rows, fits both
            expected = again.first[name].forecast(index, unseen)
            assert np.corrcoef(found[:, 0], expected[:, 0])[0, 1] > 0.99


def test_exponential_means_skip_what_is_missing(rng):
    values = np.where(rng.random((200, 3)) < 0.3, np.nan, rng.normal(size=(200, 3)))
    expected = pd.DataFrame(values).ewm(halflife=5, ignore_na=False).mean().ffill().fillna(0.0)
    found = Memory().mean("", np.nan_to_num(values), np.isfinite(values), 5.0)
    assert np.allclose(found, expected, atol=1e-12)


def test_volatility_never_vanishes_on_a_price_that_stands_still():
    returns = np.zeros((50, 2))
    returns[:10, 0] = 0.01
    volatility = recent_volatility(returns)
    assert (volatility > 0).all() and np.isclose(volatility[9, 0], 0.01)
    assert np.isclose(volatility[-1, 1], 1.0), "a price that never moved has no scale"


def test_the_baselines_measure_the_same_volatility_where_bars_are_missing(ragged_frames):
    data = prepare_cross_attention_data(ragged_frames, 8, 1, features=["log_return"])
    returns = np.asarray(data.panel[:, :, 0], float)
    found = lagged.recent_volatility(data, np.arange(4), VOLATILITY_HALF_LIFE)
    np.testing.assert_allclose(found, recent_volatility(returns)[data.ends], rtol=1e-9)


def test_tokens_are_the_series_at_their_lags():
    channels = two_channels()
    index = TokenIndex(channels)
    assert len(index) == 3 * 3 + 3 * 2 + 3 * 2
    rows, tokens = np.array([10, 20, 33]), np.arange(len(index))[::-2]
    values = index.values(rows, tokens)
    for row, got in zip(rows, values, strict=True):
        for token, value in zip(tokens, got, strict=True):
            channel = channels[index.channel[token]]
            assert value == channel.values[row - index.lag[token] + 1, index.source[token]]


def test_lasso_path_equals_scikit_learn(rng):
    x, noise = rng.normal(size=(400, 7)), rng.normal(size=400)
    x[:, 3] = 0.8 * x[:, 0] + 0.6 * x[:, 3]
    y = x @ np.array([0.5, 0, 0, -0.3, 0, 0.05, 0]) + noise
    size = np.sqrt((x**2).sum(0))
    unit = x / size
    for penalty in (8.0, 3.0, 0.5):
        moments, weights = (unit.T @ unit, unit.T @ y), (np.ones(7), np.array([penalty]))
        beta = descent.coordinate_descent(*moments, *weights, 0.0, 1e-12, 2000)[0]
        reference = Lasso(penalty / len(y), fit_intercept=False, tol=1e-12, max_iter=10**5)
        assert np.allclose(beta, reference.fit(unit, y).coef_, atol=1e-6)


def test_concave_penalty_leaves_large_coefficients_alone():
    moment = np.array([5.0, 1.5, 0.8])
    beta = descent.coordinate_descent(np.eye(3), moment, np.ones(3), np.array([1.0]), 2.0, 1e-9, 50)
    assert np.allclose(beta[0], [5.0, (1.5 - 1.0) / (1 - 0.5), 0.0])


def test_the_compiled_descent_is_the_readable_one():
    assert compiled(descent.coordinate_descent).py_func is descent.coordinate_descent


def test_regressions_find_the_planted_tokens_and_forecast_by_them(rng):
    channels = two_channels(3000, seed=4)
    channels.append(Channel("distance", "distance", channels[0].values * 0, (1,), decay=0.9))
    index = TokenIndex(channels)
    target = rng.normal(size=(3000, 2))
    target[4:, 0] += 0.4 * channels[0].values[2:-2, 2]  # source 2, lag 3
    target[1:, 1] -= 0.4 * channels[2].values[:-1, 0]  # volume of source 0, lag 2
    rows = np.arange(10, 2990)
    parts = rows[:2000], rows[2000:]
    fit = sparse.SparseRegressions(index).fit(target, np.ones_like(target), *parts)
    found = fit.final["tokens"]
    strongest = [found.row(i)[0][np.abs(found.row(i)[1]).argmax()] for i in (0, 1)]
    places = [(index.channel[t], index.source[t], index.lag[t]) for t in strongest]
    assert places == [(0, 2, 3), (2, 0, 2)]
    by_hand = found.offset[1] + index.values(rows, found.row(1)[0]) @ found.row(1)[1]
    assert np.allclose(found.forecast(index, rows)[:, 1], by_hand)


def test_a_longer_horizon_adds_up_what_is_known_of_each_bar():
    index = TokenIndex(two_channels())
    matrix = np.random.default_rng(5).normal(size=(2, len(index)))
    one = linear_map.LinearMap(sparse.csr_array(matrix), np.zeros(2))
    three = one.ahead(index, 3, np.zeros(len(index))).coefficient.toarray()
    at = {
        (index.channels[c].name, s, lag): k
        for k, (c, s, lag) in enumerate(zip(index.channel, index.source, index.lag, strict=True))
    }
    for (name, source, lag), k in at.items():
        later = [at[name, source, lag + s] for s in range(3) if (name, source, lag + s) in at]
        assert np.allclose(three[:, k], matrix[:, later].sum(1)), (name, source, lag)


def test_mix_is_bounded_least_squares_where_nothing_is_doubted(monkeypatch, rng):
    monkeypatch.setattr("crossattn.tokens.mix.CAUTION", 0.0)
    parts = {name: rng.normal(size=(500, 3)) for name in "abc"}
    target = 0.5 * parts["a"] - 0.3 * parts["b"] + 3.0 * parts["c"] + rng.normal(size=(500, 3))
    weights = mix_weights(parts, target, np.ones((500, 3)))
    design = np.stack([p.ravel() for p in parts.values()], 1)
    clipped = np.clip(target, -6, 6).ravel()
    expected = lsq_linear(design, clipped, (0, 1.5)).x
    assert np.allclose(list(weights.values()), expected, atol=1e-4)
    assert weights["b"] < 1e-6 and weights["c"] == pytest.approx(1.5)


def test_mix_gives_nothing_to_a_lucky_forecast(rng):
    pairs = rng.normal(size=(60, 2, 400, 4))
    kept = [mix_weights({"a": forecast}, target, 1.0)["a"] > 0 for forecast, target in pairs]
    assert np.mean(kept) < 0.1


@pytest.mark.parametrize(("stopped", "caution"), [((), 2.0), (("a",), 2.5)])
def test_mix_keeps_of_a_forecast_what_its_t_statistic_leaves(rng, stopped, caution):
    forecast = rng.normal(size=(2000, 1))
    target = 0.2 * forecast + rng.normal(size=(2000, 1))
    agreement = forecast * np.clip(target, -6, 6)
    t = agreement.sum() / np.sqrt((agreement**2).sum())
    expected = (1 - (caution / t) ** 2) * agreement.sum() / (forecast**2).sum()
    found = mix_weights({"a": forecast}, target, 1.0, flattered=stopped)
    assert t > 5 and found["a"] == pytest.approx(expected)


def test_content_heads_equal_one_joint_softmax():
    torch.manual_seed(0)
    members, n, channels, lags, steps = 2, 4, 3, 5, 6
    heads = ContentHeads(members, n, channels, lags).double()
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.copy_(torch.randn_like(parameter))
    content = torch.randn(channels, n, lags - 1 + steps, dtype=torch.double)
    returns = torch.randn(n, lags - 1 + steps, dtype=torch.double)
    found, coefficients = heads(returns, content), heads.coefficients(content)
    for m, t, i in itertools.product(range(members), range(steps), range(n)):
        now = t + lags - 1
        back = now - torch.arange(lags)
        score = torch.einsum("c,cjk->jk", heads.token_weight[m], content[:, :, back])
        score += (heads.source_weight[m] @ content[:, :, now])[:, None] + heads.lag_bias[m]
        score[i] += heads.own_bias[m]
        attention = score.flatten().softmax(0).view(n, lags)
        attention[i] = 0.0
        value = heads.source_scale[m].exp()[:, None] * returns[:, back]
        expected = heads.gain[m, i] * (attention * value).sum()
        assert torch.isclose(found[m, t, i], expected, atol=1e-12)
        read = (coefficients[m, t, i] * returns[:, back]).sum()
        assert torch.isclose(read, expected, atol=1e-12)


def test_relevance_regression_keeps_groups_that_matter(rng):
    x = rng.normal(size=(800, 9)).astype(np.float32)
    y = x[:, :3] @ [0.5, -0.4, 0.3] + rng.normal(size=800)
    beta, width, _ = relevance_regression(x, [3, 3, 3], y)
    ridge = np.linalg.solve(x.T @ x + np.diag(np.repeat((y - x @ beta).var() / width, 3)), x.T @ y)
    assert np.allclose(beta, ridge, atol=5e-3), "a ridge with the variances that it found"
    assert width[0] > 20 * width[1:].max()


def test_versions_of_one_forecast_share_one_weight(rng):
    signal = rng.normal(size=(600, 3))
    parts = {name: signal + 0.01 * rng.normal(size=signal.shape) for name in "ab"}
    target = 4.0 * signal + rng.normal(size=signal.shape)
    alone = mix_weights(parts, target, np.ones_like(target))
    together = mix_weights(parts, target, np.ones_like(target), versions="ab")
    assert sum(alone.values()) > 2.5
    assert sum(together.values()) == pytest.approx(1.5)


def test_a_sum_goes_on_from_the_state_that_an_earlier_row_left():
    values = np.random.default_rng(11).normal(size=(101, 2, 3))
    expected, state = [], 0.0
    for row in values:
        state = 0.9 * state + row
        expected.append(state)
    assert np.allclose(decayed_sum(values, 0.9), expected, atol=1e-12)
    assert np.allclose(decayed_sum(values[37:], 0.9, expected[36]), expected[37:], atol=1e-12)

    def add(state, rows):
        return decayed_sum(rows, 0.9, state), decayed_sum(rows, 0.9, state)[-1]

    for lags in (0, 5):  # the first rows of a tail lack their lags, and count for nothing
        memory = Memory(keep=36, lags=lags)
        assert np.allclose(memory.run("x", add, 0 * values[0], values), expected, atol=1e-12)
        tail = values[37:].copy()
        tail[:lags] = np.nan
        found = Memory(memory.after, lags=lags).run("x", add, None, tail)
        assert np.allclose(found[lags:], expected[37 + lags :], atol=1e-12)
