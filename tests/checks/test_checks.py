"""Each check passes the right answer and tells each wrong one apart by its message."""

import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from grader.submissions import solution

from crossattn import checks as course
from crossattn import prepare_cross_attention_data, simulate_market
from crossattn.attention.functional import scaled_dot_product_attention
from crossattn.checks.money import account_by_loop

CHECKS = {
    "ps1 attention": course.check_attention,
    "ps2 multi-head": course.check_multi_head,
    "ps3 lag-attention": course.check_lag_attention,
    "ps3 tokens": course.check_lag_tokens,
    "ps4 means hierarchy": course.check_hierarchy,
    "ps5 split": course.check_split,
    "ps6 loss": course.check_sharpe_loss,
    "ps7 q-values": course.check_false_discovery,
    "ps7 p-value": course.check_p_value,
    "ps8 backtest": course.check_backtest,
    "ps8 metrics": course.check_metrics,
    "ps9 variance": course.check_variance_forecast,
    "ps9 qlike": course.check_qlike,
    "ps9 shares": course.check_shares,
}


def answer(about, slips):
    """Return the function of the assignments' solution, with some of its text replaced.

    ``about`` names an assignment, the answer, and before it those that it calls.
    """
    assignment, *needed, last = about.split()
    space, text = {"np": np, "torch": torch}, solution(assignment, last, slips)
    for code in [*(solution(assignment, name, {}) for name in needed), text]:
        exec(code, space)
    return space[re.match(r"def (\w+)", text)[1]]


RIGHT = [(check, answer(about, {})) for about, check in CHECKS.items()] + [
    (course.check_attention, scaled_dot_product_attention),
    (course.check_backtest, account_by_loop),
    (course.check_features, lambda p: p.pct_change(fill_method=None).rolling(5).std()),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT, ids=lambda x: getattr(x, "__name__", ""))
def test_right_answers_pass(check, answer, capsys):
    check(answer)
    assert "stages passed" in capsys.readouterr().out


SMALLEST = "torch.finfo(scores.dtype).min"
UNMASKED = {f"scores.masked_fill(~mask, {SMALLEST})": "scores"}
NO_ROW_LEFT = {SMALLEST: "-torch.inf", "shares.masked_fill(~mask, 0.0)": "shares"}
NAIVE = {"scores.softmax(dim=-1)": "scores.exp() / scores.exp().sum(-1, keepdim=True)"}
CHUNKS = {"(n, n_heads, d // n_heads).transpose(0, 1)  ": "(n_heads, n, d // n_heads)  "}
JOINT = ".flatten(1).softmax(dim=-1).reshape(len(query), m, lags)"
FUTURE = {"[k:, :, k] = returns[: len(returns) - k]": "[: len(returns) - k, :, k] = returns[k:]"}
PARTS = "np.arange(first - horizon), np.arange(first, n_rows)"
MIXED = {PARTS: "np.arange(0, n_rows, 2), np.arange(1, n_rows, 2)"}
BY_ASSET = {".sum(dim=1)": "", "net.mean() / net.std()": "(net.mean(0) / net.std(0)).mean()"}
TABLE = "total / total.sum(axis=1, keepdims=True)"
RATIO, SCALE = "square / variance", " / np.diag(S)"
ORDERED = {"@ S": "@ np.linalg.cholesky(S)", SCALE: ""}


def early(prices, targets, cost):
    if np.isnan(targets[1:]).all():
        return account_by_loop(prices, targets, cost)
    held = pd.DataFrame(targets).ffill().to_numpy()
    bars = prices[1:] / prices[:-1] - 1
    return np.concatenate([[1.0], np.cumprod(1 + (bars * held[1:]).sum(1))])


def variance(returns, half_life, *, shift=0, adjust=True):
    return (pd.DataFrame(returns) ** 2).ewm(halflife=half_life, adjust=adjust).mean().shift(shift)


def centred(returns, half_life):
    return pd.DataFrame(returns).ewm(halflife=half_life).var(bias=True)


SLIPS = [
    ("ps1 attention", {"dim=-1": "dim=-2"}, "softmax runs over the queries"),
    ("ps1 attention", {" / query.shape[-1] ** 0.5": ""}, "not divided by the square root"),
    ("ps1 attention", {"query.shape[-1] ** 0.5": "4.0"}, "divide by its square root"),
    ("ps1 attention", {"mask is not None": "False"}, "the mask changes nothing"),
    ("ps1 attention", {"~mask": "mask"}, "wrong way round"),
    ("ps1 attention", UNMASKED, "after the softmax"),
    ("ps1 attention", NO_ROW_LEFT, "gives NaN"),
    ("ps1 attention", NAIVE, "large scores overflow"),
    ("ps1 attention", {"shares @ value, shares": "value"}, "return the pair"),
    ("ps2 multi-head", {" @ w_output": ""}, "output projection is missing"),
    ("ps2 multi-head", CHUNKS, "mixes assets"),
    ("ps2 multi-head", {"/ (d // n_heads)": "/ d"}, "not of all heads together"),
    ("ps3 lag-attention", {JOINT: ".softmax(2)"}, "over lags alone"),
    ("ps3 lag-attention", {JOINT: ".softmax(1)"}, "over assets alone"),
    ("ps3 lag-attention", {"mask is not None": "False"}, "mask changes nothing"),
    ("ps3 tokens", FUTURE, "into the future"),
    ("ps3 tokens", {"[k:": "[k + 1 :", "- k]": "- k - 1]"}, "one bar old"),
    ("ps4 means hierarchy", {".masked_fill(~foreign, -torch.inf)": ""}, "its own sector twice"),
    ("ps4 means hierarchy", {"return x + ": "return "}, "the token itself is missing"),
    ("ps5 split", {"- horizon": "- horizon + 1"}, "purge by the horizon"),
    ("ps5 split", {"- horizon": "- horizon - 1"}, "rows 0 to 25 are safe"),
    ("ps5 split", MIXED, "time order"),
    ("ps8 backtest", {"cost * np": "0 * np"}, "no cost is paid"),
    ("ps8 metrics", {"[1.0], ": ""}, "loss on the first bar"),
    ("ps6 loss", {"-net": "net"}, "turn the sign"),
    ("ps6 loss", BY_ASSET, "the assets' own ratios"),
    ("ps6 loss", {"torch.zeros_like(positions[:1])": "positions[:1]"}, "must be bought too"),
    ("ps7 q-values", {"np.minimum.accumulate(raw[::-1])[::-1]": "raw"}, "running minimum"),
    ("ps7 q-values", {"q[order] =": "q[:] ="}, "sorted order"),
    ("ps9 variance", {"0.5 ** (1 / half_life)": "0.75"}, "keep 0.5 **"),
    ("ps9 qlike", {" - 1": ""}, "costs 0, yours costs 1"),
    ("ps9 qlike", {RATIO: "variance / square"}, "upside down"),
    ("ps9 qlike", {RATIO: f"({RATIO}) ** 0.5"}, "no root"),
    ("ps9 qlike", {RATIO: f"({RATIO}) ** 2"}, "no square"),
    ("ps9 shares", {"range(steps)": "range(steps + 1)"}, "h runs from 0"),
    ("ps9 shares", {TABLE: f"({TABLE}).T"}, "yours is turned"),
    ("ps9 shares", {SCALE: ""}, "variance of shock j"),
    ("ps9 shares", ORDERED, "depends on the order"),
    ("ps9 shares", {"@ S": "", SCALE: ""}, "S plays no part"),
]
# answers of which no solution is a slip away
ANSWERS = [
    (course.check_features, lambda p: p.shift(-2) / p, "reaches 2 bar"),
    (course.check_features, lambda p: (p - p.mean()) / p.std(), "the whole sample"),
    (course.check_features, lambda p: p.pct_change(fill_method=None).dropna(), "row for row"),
    (course.check_features, lambda p: p.bfill(), "filled from later"),
    (course.check_backtest, partial(account_by_loop, delay=1), "one row late"),
    (course.check_backtest, partial(account_by_loop, drift=False), "the weights drift"),
    (course.check_false_discovery, lambda p: np.minimum(7 * p, 1), "Bonferroni"),
    (course.check_p_value, lambda s, null: (null >= s).mean(), "no finite simulation"),
    (course.check_p_value, lambda s, null: (1 + (null > s).sum()) / 10, "equal to the statistic"),
    (course.check_p_value, lambda s, null: 0.5, "expected 0.2, got 0.5"),
    (course.check_backtest, early, "the future, leaked"),
    (course.check_variance_forecast, partial(variance, shift=-1), "what it should forecast"),
    (course.check_variance_forecast, partial(variance, shift=1), "known when the forecast is made"),
    (course.check_variance_forecast, partial(variance, adjust=False), "must sum to 1"),
    (course.check_variance_forecast, lambda r, k: r**2 * 0 + (r**2).mean(0), "its future too"),
    (course.check_variance_forecast, lambda r, k: (r**2)[-1], "one variance a row"),
    (course.check_variance_forecast, lambda r, k: variance(r, k) ** 0.5, "leave the root out"),
    (course.check_variance_forecast, centred, "do not subtract the mean"),
    (course.check_qlike, lambda v, s: (v - s) ** 2, "one wild day decides"),
]
WRONG = [(CHECKS[about], answer(about, slips), words) for about, slips, words in SLIPS] + ANSWERS


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
    found = answer("ps9 shares", {})(beta[1:].T, left.T @ left, 5)
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
