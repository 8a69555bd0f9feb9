"""Each check passes the right answer and tells each wrong one apart by its message."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from crossattn import checks as course
from crossattn import prepare_cross_attention_data, simulate_market
from crossattn.attention.functional import scaled_dot_product_attention
from crossattn.checks.money import account_by_loop


def attention(query, key, value, mask=None, *, axis=-1, root=None, slip=""):
    scores = query @ key.transpose(-2, -1) / (root or query.shape[-1] ** 0.5)
    if mask is not None and slip not in ("ignored", "after"):
        scores = scores.masked_fill(mask if slip == "inverted" else ~mask, -torch.inf)
    if slip == "naive":
        powers = scores.exp()
        shares = powers / powers.sum(-1, keepdim=True).clamp(min=1e-300)
    else:
        shares = scores.softmax(axis)
    if mask is not None and slip == "after":
        shares = shares * mask
    return shares @ value, shares


def early(prices, targets, cost):
    if np.isnan(targets[1:]).all():
        return account_by_loop(prices, targets, cost)
    held = pd.DataFrame(targets).ffill().to_numpy()
    bars = prices[1:] / prices[:-1] - 1
    return np.concatenate([[1.0], np.cumprod(1 + (bars * held[1:]).sum(1))])


def heads(x, w_query, w_key, w_value, w_output, n_heads, mask=None, *, slip=""):
    n, d = x.shape

    def split(m):
        if slip == "chunks":
            return m.reshape(n_heads, n, d // n_heads)
        return m.reshape(n, n_heads, d // n_heads).transpose(0, 1)

    query, key, value = (split(x @ w) for w in (w_query, w_key, w_value))
    if slip == "whole root":
        query = query / n_heads**0.5
    output, shares = scaled_dot_product_attention(query, key, value, mask)
    joined = output.transpose(0, 1).reshape(n, d)
    return (joined if slip == "no projection" else joined @ w_output), shares


def lags(query, key, value, mask=None, *, by=None, use_mask=True):
    n, m, n_lags = len(query), *key.shape[:2]
    scores = torch.einsum("nd,mld->nml", query, key) / query.shape[-1] ** 0.5
    if mask is not None and use_mask:
        scores = scores.masked_fill(~mask[..., None], -torch.inf)
    if by is None:
        shares = scores.flatten(1).softmax(-1).reshape(n, m, n_lags)
    else:
        shares = scores.softmax(by)
    return torch.einsum("nml,mlv->nv", shares, value), shares


def tokens(returns, n_lags, *, shift=lambda k: k):
    table = pd.DataFrame(returns)
    return np.stack([table.shift(shift(k)).to_numpy() for k in range(n_lags)], axis=2)


def hierarchy(x, sector_of, *, own=False, residual=True):
    member = torch.nn.functional.one_hot(sector_of).to(x)
    means = (member / member.sum(0)).T @ x
    same = sector_of[:, None] == sector_of[None]
    inside, within = scaled_dot_product_attention(x, x, x, same)
    elsewhere = torch.full_like(member, own, dtype=torch.bool) | (member == 0)
    outside, across = scaled_dot_product_attention(x, means, means, elsewhere)
    return inside + outside + (x if residual else 0), within, across


def sharpe(positions, returns, cost=0.0, *, sign=-1, by_asset=False, first=True):
    earned = positions * returns
    if by_asset:
        return -(earned.mean(0) / earned.std(0)).mean()
    start = positions[:1] * (0 if first else 1)
    orders = (positions - torch.cat([start, positions[:-1]])).abs().sum(1)
    net = earned.sum(1) - cost * orders
    return sign * net.mean() / net.std()


def split(rows, share, horizon, *, purged=0, shuffle=False):
    first = round(rows * share)
    train = np.arange(first - horizon - purged)
    if shuffle:
        mixed = np.random.default_rng(0).permutation(rows)
        return mixed[:first], mixed[first:]
    return train, np.arange(first, rows)


def fdr(p, *, monotone=True, restore=True):
    order = np.argsort(p)
    q = p[order] * len(p) / np.arange(1, len(p) + 1)
    if monotone:
        q = np.minimum.accumulate(q[::-1])[::-1]
    q = np.minimum(q, 1)
    return q[np.argsort(order)] if restore else q


def variance(returns, half_life, *, shift=0, **decay):
    squares = pd.DataFrame(returns) ** 2
    return squares.ewm(**(decay or {"halflife": half_life})).mean().shift(shift)


def shares(A, S, n_steps, *, divide=True, cholesky=False, steps=0, plain=False, turned=False):
    root = np.linalg.cholesky(S) if cholesky else np.eye(len(A)) if plain else S
    weights = [np.linalg.matrix_power(A, h) @ root for h in range(n_steps + steps)]
    scale = np.diag(S) if divide and not (cholesky or plain) else 1.0
    total = sum(weight**2 for weight in weights) / scale
    total = total / total.sum(axis=1, keepdims=True)
    return total.T if turned else total


def qlike(variance, square):
    return square / variance - np.log(square / variance) - 1


def metrics(returns, periods, *, start=(1.0,)):
    wealth = np.cumprod([*start, *(1 + returns)])
    ratio = returns.mean() / returns.std(ddof=1) * periods**0.5
    drawdown = (wealth / np.maximum.accumulate(wealth) - 1).min()
    return {"sharpe_ratio": ratio, "max_drawdown": drawdown}


def upper(statistic, null):
    return (1 + (null >= statistic).sum()) / (1 + len(null))


RIGHT = [
    (course.check_attention, scaled_dot_product_attention),
    (course.check_multi_head, heads),
    (course.check_lag_attention, lags),
    (course.check_lag_tokens, tokens),
    (course.check_hierarchy, hierarchy),
    (course.check_features, lambda p: p.pct_change(fill_method=None).rolling(5).std()),
    (course.check_split, split),
    (course.check_backtest, account_by_loop),
    (course.check_metrics, metrics),
    (course.check_sharpe_loss, sharpe),
    (course.check_false_discovery, fdr),
    (course.check_p_value, upper),
    (course.check_variance_forecast, variance),
    (course.check_qlike, qlike),
    (course.check_shares, shares),
]

WRONG = [
    (course.check_attention, partial(attention, axis=-2), "softmax runs over the queries"),
    (course.check_attention, partial(attention, root=1.0), "not divided by the square root"),
    (course.check_attention, partial(attention, root=4.0), "divide by its square root"),
    (course.check_attention, partial(attention, slip="ignored"), "the mask changes nothing"),
    (course.check_attention, partial(attention, slip="inverted"), "wrong way round"),
    (course.check_attention, partial(attention, slip="after"), "after the softmax"),
    (course.check_attention, attention, "gives NaN"),
    (course.check_attention, partial(attention, slip="naive"), "large scores overflow"),
    (course.check_attention, lambda q, k, v, mask=None: q, "return the pair"),
    (course.check_multi_head, partial(heads, slip="no projection"), "output projection is missing"),
    (course.check_multi_head, partial(heads, slip="chunks"), "mixes assets"),
    (course.check_multi_head, partial(heads, slip="whole root"), "not of all heads together"),
    (course.check_lag_attention, partial(lags, by=2), "over lags alone"),
    (course.check_lag_attention, partial(lags, by=1), "over assets alone"),
    (course.check_lag_attention, partial(lags, use_mask=False), "mask changes nothing"),
    (course.check_lag_tokens, partial(tokens, shift=lambda k: -k), "into the future"),
    (course.check_lag_tokens, partial(tokens, shift=lambda k: k + 1), "one bar old"),
    (course.check_hierarchy, partial(hierarchy, own=True), "its own sector twice"),
    (course.check_hierarchy, partial(hierarchy, residual=False), "the token itself is missing"),
    (course.check_features, lambda p: p.shift(-2) / p, "reaches 2 bar"),
    (course.check_features, lambda p: (p - p.mean()) / p.std(), "the whole sample"),
    (course.check_features, lambda p: p.pct_change(fill_method=None).dropna(), "row for row"),
    (course.check_features, lambda p: p.bfill(), "filled from later"),
    (course.check_split, partial(split, purged=-1), "purge by the horizon"),
    (course.check_split, partial(split, purged=1), "rows 0 to 25 are safe"),
    (course.check_split, partial(split, shuffle=True), "time order"),
    (course.check_backtest, partial(account_by_loop, delay=1), "one row late"),
    (course.check_backtest, early, "the future, leaked"),
    (course.check_backtest, lambda p, t, c: account_by_loop(p, t, 0.0), "no cost is paid"),
    (course.check_backtest, partial(account_by_loop, drift=False), "the weights drift"),
    (course.check_metrics, partial(metrics, start=()), "loss on the first bar"),
    (course.check_sharpe_loss, partial(sharpe, sign=1), "turn the sign"),
    (course.check_sharpe_loss, partial(sharpe, by_asset=True), "the assets' own ratios"),
    (course.check_sharpe_loss, partial(sharpe, first=False), "must be bought too"),
    (course.check_false_discovery, lambda p: np.minimum(7 * p, 1), "Bonferroni"),
    (course.check_false_discovery, lambda p: fdr(p, monotone=False), "running minimum"),
    (course.check_false_discovery, lambda p: fdr(p, restore=False), "sorted order"),
    (course.check_p_value, lambda s, null: (null >= s).mean(), "no finite simulation"),
    (course.check_p_value, lambda s, null: (1 + (null > s).sum()) / 10, "equal to the statistic"),
    (course.check_p_value, lambda s, null: 0.5, "expected 0.2, got 0.5"),
    (
        course.check_variance_forecast,
        partial(variance, shift=-1),
        "which is what it should forecast",
    ),
    (course.check_variance_forecast, partial(variance, shift=1), "known when the forecast is made"),
    (course.check_variance_forecast, partial(variance, alpha=0.25), "keep 0.5 **"),
    (course.check_variance_forecast, partial(variance, halflife=4, adjust=False), "must sum to 1"),
    (course.check_variance_forecast, lambda r, k: variance(r, k) ** 0.5, "leave the root out"),
    (course.check_variance_forecast, lambda r, k: r**2 * 0 + (r**2).mean(0), "its future too"),
    (course.check_variance_forecast, lambda r, k: (r**2)[-1], "one variance a row"),
    (
        course.check_variance_forecast,
        lambda r, k: variance(r, k) - pd.DataFrame(r).ewm(halflife=k).mean() ** 2,
        "do not subtract the mean",
    ),
    (course.check_qlike, lambda v, s: qlike(v, s) + 1, "costs 0, yours costs 1"),
    (course.check_qlike, lambda v, s: qlike(s, v), "upside down"),
    (course.check_qlike, lambda v, s: qlike(v**0.5, s**0.5), "no root"),
    (course.check_qlike, lambda v, s: qlike(v**2, s**2), "no square"),
    (course.check_qlike, lambda v, s: (v - s) ** 2, "one wild day decides"),
    (course.check_shares, partial(shares, steps=1), "h runs from 0"),
    (course.check_shares, partial(shares, turned=True), "yours is turned"),
    (course.check_shares, partial(shares, divide=False), "variance of shock j"),
    (course.check_shares, partial(shares, cholesky=True), "depends on the order"),
    (course.check_shares, partial(shares, plain=True), "S plays no part"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT, ids=lambda x: getattr(x, "__name__", ""))
def test_right_answers_pass(check, answer, capsys):
    check(answer)
    assert "stages passed" in capsys.readouterr().out


@pytest.mark.parametrize(("check", "answer", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_wrong_answers_are_told_apart(check, answer, message):
    with pytest.raises(course.CheckFailedError, match="stage") as failure:
        check(answer)
    assert message in str(failure.value)


def test_unwritten_and_broken_answers_are_named():
    def unwritten(*_):
        raise NotImplementedError

    with pytest.raises(course.CheckFailedError, match="nothing is written here yet"):
        course.check_attention(unwritten)
    with pytest.raises(course.CheckFailedError, match="raised ZeroDivisionError"):
        course.check_backtest(lambda *_: 1 / 0)


def test_account_of_the_check_is_that_of_the_package(rng):
    from crossattn import backtest_weights

    times = pd.date_range("2024-01-01", periods=40, freq="D", tz="UTC")
    prices = pd.DataFrame(100 * np.exp(rng.normal(size=(40, 4)).cumsum(0) * 0.02), times)
    targets = pd.DataFrame(rng.dirichlet(np.ones(4), 40), times)
    targets.iloc[np.arange(40) % 5 != 0] = np.nan
    mine = account_by_loop(prices.to_numpy(), targets.to_numpy(), 0.002)
    options = {"transaction_cost": 0.002, "initial_capital": 1.0, "sizing": "before_cost"}
    theirs = backtest_weights(targets, prices, **options)
    np.testing.assert_allclose(mine, theirs.equity, rtol=1e-12)


def test_split_of_the_check_is_that_of_the_package():
    frames = simulate_market(n_assets=3, n_steps=120, seed=0).frames

    def split_by_package(n_rows, share, horizon):
        data = prepare_cross_attention_data(frames, 8, horizon, ["log_return"])[:n_rows]
        train, rest, _ = data.split(train=share, val=0.2)
        return train.ends - data.ends[0], np.arange(rest.ends[0] - data.ends[0], n_rows)

    course.check_split(split_by_package)


def test_shares_of_the_check_are_those_of_the_package():
    from crossattn.evidence import connectedness

    x = np.random.default_rng(4).normal(size=(300, 3)) @ np.triu(np.ones((3, 3)))
    z = np.column_stack([np.ones(299), x[:-1]])
    beta = np.linalg.lstsq(z, x[1:], rcond=None)[0]
    left = x[1:] - z @ beta
    found = shares(beta[1:].T, left.T @ left, 5)
    np.testing.assert_allclose(found, connectedness(pd.DataFrame(x), 1, 5).table)


def test_every_student_has_a_market_of_their_own(monkeypatch):
    options = {"n_assets": 3, "n_steps": 200}
    ada = course.market_for("ada", "ps3", "open", **options)
    again = course.market_for("ada", "ps3", "open", **options)
    bob = course.market_for("bob", "ps3", "open", **options)
    np.testing.assert_array_equal(ada.returns, again.returns)
    assert not np.allclose(ada.returns, bob.returns)
    monkeypatch.setenv("CROSSATTN_STUDENT", "bob")
    graded = course.market_for("ada", "ps3", "open", **options)
    np.testing.assert_array_equal(graded.returns, bob.returns)
