"""Scores of value at risk, shortfall and quantiles against arithmetic, scikit-learn, a paper."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mean_pinball_loss

from crossattn.evidence import (
    coverage_test,
    pinball_loss,
    score_quantiles,
    score_tails,
    shortfall_test,
    tail_loss,
)

LEVELS = (0.1, 0.5, 0.9)


def t_tail(level, freedom=5):
    """Quantile and mean below it of a Student t, the mean by integration."""
    law = stats.t(freedom)
    quantile = law.ppf(level)
    return quantile, law.expect(lambda x: x, ub=quantile) / level


def test_pinball_is_scikit_learns(rng):
    actual, quantiles = rng.normal(size=(40, 3)), rng.normal(size=(40, 3, 3))
    actual[5, 1] = np.nan
    known = np.isfinite(actual)
    loss = pinball_loss(quantiles, actual, LEVELS)
    assert np.isnan(loss[5, 1]).all()
    for k, level in enumerate(LEVELS):
        wanted = mean_pinball_loss(actual[known], quantiles[known][:, k], alpha=level)
        assert np.nanmean(loss[..., k]) == pytest.approx(wanted)


@pytest.mark.parametrize("level", [0.01, 0.05])
def test_joint_loss_is_least_at_the_true_pair(level):
    returns = stats.t(5).ppf((np.arange(400_000) + 0.5) / 400_000)
    var, shortfall = t_tail(level)

    def mean_loss(v, e):
        return tail_loss(np.full_like(returns, v), np.full_like(returns, e), returns, level).mean()

    least = mean_loss(var, shortfall)
    for v, e in [(0.95, 1), (1.05, 1), (1, 0.95), (1, 1.05), (0.95, 0.95), (1.05, 1.05)]:
        assert mean_loss(v * var, e * shortfall) > least
    # differences do not depend on the unit
    scaled = tail_loss([10 * var], [10 * shortfall], [-40.0], level) - np.log(10)
    assert scaled[0] == pytest.approx(tail_loss([var], [shortfall], [-4.0], level)[0])


def test_acerbi_and_szekelys_statistic_has_their_critical_value():
    # "for 5 % significance -0.7, remarkably stable": T = 250 at 2.5 % (Risk, December 2014)
    quantile = stats.norm.ppf(0.025)
    shortfall = -stats.norm.pdf(quantile) / 0.025
    draws = np.random.default_rng(0).standard_normal((4000, 250))
    forecast = np.full(250, quantile), np.full(250, shortfall)
    found = [shortfall_test(*forecast, row, 0.025).z for row in draws]
    assert np.quantile(found, 0.05) == pytest.approx(-0.70, abs=0.03)


@pytest.mark.parametrize("level", [0.01, 0.05])
def test_shortfall_test_has_its_size_and_sees_too_little_promised(level):
    var, shortfall = (np.full(3000, x) for x in t_tail(level))
    draws = np.random.default_rng(1).standard_t(5, (300, 3000))
    right = [shortfall_test(var, shortfall, row, level).p_value < 0.05 for row in draws]
    assert np.mean(right) < 0.085
    short = shortfall_test(0.7 * var, 0.7 * shortfall, draws[0], level)
    assert short.z < 0 and short.p_value < 0.01
    hit = draws[0] < 0.7 * var
    assert short.ratio == pytest.approx(draws[0][hit].mean() / (0.7 * shortfall[0]))
    assert short.z == pytest.approx(1 - short.ratio * hit.mean() / level)
    partly = shortfall.copy()
    partly[:900] = np.nan  # left out, although their value at risk is known
    later = shortfall_test(var[900:], shortfall[900:], draws[0, 900:], level)
    assert shortfall_test(var, partly, draws[0], level) == later


def test_tails_stand_side_by_side_on_the_same_cells():
    returns = np.random.default_rng(2).standard_t(5, (1500, 4))
    right = tuple(np.full(returns.shape, x) for x in t_tail(0.05))
    narrow = tuple(0.7 * x for x in right)
    narrow[0][:100] = np.nan
    table = score_tails({"narrow": narrow, "right": right}, returns, 0.05, reference="right")
    hits = returns[100:] < narrow[0][100:]
    assert table.loc["narrow", "share"] == pytest.approx(hits.mean())
    rejected = [coverage_test(column, 0.05).unconditional_p < 0.05 for column in hits.T]
    assert table.loc["narrow", "kupiec"] == np.mean(rejected) == 1
    assert table.loc["narrow", "share_p"] < 0.001 < 0.05 < table.loc["right", "share_p"]
    assert table.loc["narrow", "z_p"] < 0.001 < 0.05 < table.loc["right", "z_p"]
    assert table.loc["narrow", "t"] < -3 and np.isnan(table.loc["right", "t"])
    loss = tail_loss(right[0][100:], right[1][100:], returns[100:], 0.05)
    assert table.loc["right", "loss"] == pytest.approx(loss.mean())


def test_quantiles_stand_side_by_side(rng):
    volatility = np.exp(rng.normal(size=(1200, 3)))
    actual = volatility * rng.normal(size=(1200, 3))
    actual[3] = np.nan
    law = volatility[..., None] * stats.norm.ppf(LEVELS)
    flat = np.broadcast_to(np.nanquantile(actual, LEVELS, axis=0).T, law.shape)
    forecasts = {"law": law, "flat": flat}
    table = score_quantiles(forecasts, actual, LEVELS, volatility=volatility)
    known = np.isfinite(actual)
    loss = pinball_loss(law, actual, LEVELS)[known].mean(axis=1) / volatility[known]
    assert table.loc["law", "pinball"] == pytest.approx(loss.mean())
    assert table.loc["law", 0.1] == pytest.approx((actual < law[..., 0])[known].mean())
    assert table.loc["flat", "t"] < -3 and table.loc["law", "worst_p"] > 0.05
    moved = score_quantiles({"high": law + 0.3 * volatility[..., None]}, actual, LEVELS)
    assert moved.loc["high", "worst_p"] < 0.001
    law[..., 0] = -1e9
    assert score_quantiles({"a": law}, actual, LEVELS).loc["a", "worst_p"] < 1e-9, "never below"


@pytest.mark.parametrize("horizon", [1, 21])
def test_values_at_risk_that_are_never_violated_are_rejected(horizon, rng):
    returns = rng.normal(size=(5000, 3))
    wide = np.full_like(returns, -100.0), np.full_like(returns, -120.0)
    row = score_tails({"wide": wide}, returns, 0.05, horizon=horizon).loc["wide"]
    assert row["share"] == 0 and row["share_p"] < 1e-6 and row["z_p"] < 1e-6
    few = score_tails({"wide": [part[:250, :1] for part in wide]}, returns[:250, :1], 0.01)
    assert 0.08 < few.loc["wide", "share_p"] < 0.2, "none in 250 days is 8 % likely at 1 %"


def test_shares_of_assets_that_fall_together_have_their_size():
    quantile = stats.norm.ppf(0.01)
    right = [np.full((250, 5), x) for x in (quantile, -stats.norm.pdf(quantile) / 0.01)]
    draw, found = np.random.default_rng(4), {1.0: [], 0.7: []}
    for _ in range(200):
        common = draw.random((250, 5)) < 0.6
        returns = np.where(common, draw.normal(size=(250, 1)), draw.normal(size=(250, 5)))
        for scale, rows in found.items():
            tails = {"a": [scale * part for part in right]}
            rows.append(score_tails(tails, returns, 0.01).loc["a", ["share_p", "z_p"]] < 0.01)
    assert (np.mean(found[1.0], axis=0) < 0.03).all()
    assert (np.mean(found[0.7], axis=0) > 0.7).all()


def test_quantiles_of_overlapping_returns_have_their_size(rng):
    law, found = stats.norm.ppf(LEVELS), {1.0: [], 0.6: []}
    for _ in range(200):
        sums = np.lib.stride_tricks.sliding_window_view(rng.normal(size=(520, 4)), 21, axis=0)
        actual = sums.sum(axis=-1) / np.sqrt(21)
        for scale, rows in found.items():
            forecast = {"a": np.broadcast_to(scale * law, (*actual.shape, 3))}
            rows.append(score_quantiles(forecast, actual, LEVELS, horizon=21).loc["a", "worst_p"])
    assert np.mean(np.less(found[1.0], 0.05)) < 0.08 and np.mean(np.less(found[0.6], 0.05)) > 0.7


CELLS = np.full((20, 2), -1.0)


def test_what_cannot_be_scored_is_refused(refuse_input):
    two, three, pair = np.ones((20, 2, 2)), np.ones((20, 2, 3)), (CELLS, CELLS)
    refuse_input(lambda: pinball_loss(np.ones((9, 2)), np.ones(9), LEVELS), "must have shape")
    refuse_input(lambda: pinball_loss(np.ones((9, 1)), np.ones(9), [1.0]), "levels must lie")
    refuse_input(lambda: tail_loss(CELLS, -CELLS, CELLS, 0.05), "return below 0")
    refuse_input(lambda: tail_loss(CELLS, CELLS[:9], CELLS, 0.05), "must have one shape")
    refuse_input(lambda: shortfall_test(CELLS, CELLS, CELLS, 1.5), "level")
    refuse_input(lambda: shortfall_test(*[CELLS[:4]] * 3, 0.05), "at least 8 rows")
    refuse_input(lambda: score_tails({}, CELLS, 0.05), "at least one")
    refuse_input(lambda: score_tails({"a": pair}, CELLS, 0.05, reference="b"), "reference")
    refuse_input(lambda: score_quantiles({}, CELLS, LEVELS), "at least one")
    refuse_input(lambda: score_quantiles({"a": two}, CELLS, LEVELS), "quantiles must have shape")
    wrong = {"volatility": CELLS[0]}
    refuse_input(lambda: score_quantiles({"a": three}, CELLS, LEVELS, **wrong), "volatility")
