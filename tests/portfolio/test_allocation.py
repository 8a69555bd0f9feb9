"""From predictions to weights: limits hold, faint forecasts stay faint, decisions overlap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossattn.portfolio.allocation import (
    cap_weights,
    class_scores,
    forecast_scores,
    staggered,
    trailing_risk,
    weights_from_scores,
)


@settings(max_examples=200)
@given(
    scores=st.lists(st.floats(-3, 3), min_size=1, max_size=7),
    limit=st.floats(0.05, 1.0),
    short=st.booleans(),
)
def test_scores_are_cut_and_scaled_down_never_up(scores, limit, short):
    scores = np.array(scores)
    weights = weights_from_scores(scores, allow_short=short, max_position=limit)
    assert np.abs(weights).max() <= limit + 1e-12
    assert np.abs(weights).sum() <= 1 + 1e-12
    assert (np.abs(weights) <= np.abs(scores) + 1e-15).all()
    assert short or (weights >= 0).all()
    faint = weights_from_scores(scores * 1e-9, allow_short=True)
    np.testing.assert_allclose(faint, scores * 1e-9, rtol=1e-12)


@settings(max_examples=200)
@given(raw=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=7), slack=st.floats(1.0, 3.0))
def test_capped_weights_keep_their_sum_under_the_limit(raw, slack):
    raw = np.array(raw) + 1e-6
    weights = raw / raw.sum()
    limit = min(1.0, slack / len(weights))
    capped = cap_weights(weights, max_position=limit)
    assert capped.max() <= limit + 1e-12
    assert capped.sum() == pytest.approx(1.0, rel=1e-9)
    order = np.argsort(weights, kind="stable")
    assert (np.diff(capped[order]) >= -1e-12).all(), "who was larger stays at least as large"


def test_capping_by_hand():
    capped = cap_weights(np.array([[0.7, 0.2, 0.1], [0.2, 0.3, 0.1]]), max_position=0.45)
    # .25 of excess goes 2 : 1, which fits; the second row is within the limit
    np.testing.assert_allclose(capped[0], [0.45, 0.2 + 0.5 / 3, 0.1 + 0.25 / 3])
    np.testing.assert_allclose(capped[1], [0.2, 0.3, 0.1])
    twice = cap_weights(np.array([0.9, 0.08, 0.01, 0.01]), max_position=0.4)
    assert twice.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(twice, [0.4, 0.4, 0.1, 0.1])
    cash = cap_weights(np.array([0.2, 0.2, np.nan]), max_position=0.2)
    np.testing.assert_array_equal(cash, [0.2, 0.2, np.nan])


def test_shorts_are_dropped_or_kept():
    weights = np.array([0.6, -0.4])
    np.testing.assert_array_equal(cap_weights(weights), [0.6, 0.0])
    np.testing.assert_array_equal(cap_weights(weights, allow_short=True), weights)
    np.testing.assert_allclose(cap_weights(3 * weights, allow_short=True), weights)


def test_class_scores_weigh_up_against_down():
    logits = np.log(np.array([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]]))
    np.testing.assert_allclose(class_scores(logits), [0.3, -0.3])
    np.testing.assert_allclose(class_scores(logits + 700), [0.3, -0.3])


def test_risk_is_known_before_the_return_it_judges(rng):
    returns = rng.normal(0, 0.01, (60, 3))
    returns[rng.random(returns.shape) < 0.1] = np.nan
    risk = trailing_risk(returns, 12.0)
    changed = returns.copy()
    changed[30:] *= 9
    np.testing.assert_array_equal(trailing_risk(changed, 12.0)[:31], risk[:31])
    assert (trailing_risk(changed, 12.0)[40:] > risk[40:]).all()
    np.testing.assert_allclose(trailing_risk([[0.1]] * 5, least=2)[2:], 0.1)
    past = returns[:41, 1][~np.isnan(returns[:41, 1])]
    weight = 0.5 ** (np.arange(len(past))[::-1] / 12.0)
    assert risk[41, 1] == pytest.approx(np.sqrt((weight * past**2).sum() / weight.sum()))


def test_staggered_decisions_are_a_moving_average_of_sleeves(rng):
    decisions = rng.normal(size=(9, 2))
    held = staggered(decisions, 3)
    np.testing.assert_allclose(held[5], decisions[3:6].mean(axis=0))
    np.testing.assert_allclose(held[0], decisions[0] / 3)
    np.testing.assert_allclose(staggered(decisions, 1), decisions)
    decisions[4, 0] = np.nan
    expected = (2 * decisions[3, 0] + decisions[5, 0]) / 3
    np.testing.assert_allclose(staggered(decisions, 3)[5, 0], expected)


def test_bad_input_is_refused_by_name(refuse_input):
    refuse_input(lambda: cap_weights(np.full(4, 0.25), max_position=0.2), r"must be at least 0\.25")
    refuse_input(lambda: cap_weights([-np.inf, 0.0]), "finite")
    refuse_input(lambda: weights_from_scores([-np.inf, 0.0]), "finite")
    refuse_input(lambda: class_scores(np.zeros((3, 2))), "logits must have shape")
    refuse_input(lambda: class_scores(0.5), "logits must have shape")
    refuse_input(lambda: trailing_risk([0.1] * 5), "returns must have shape")
    refuse_input(lambda: trailing_risk(np.zeros((20, 2)), -3), "half_life")
    refuse_input(lambda: trailing_risk(np.zeros((20, 2)), least=0), "least")


def test_a_price_that_stands_still_has_no_known_risk():
    """Measured as a small one, it would draw the whole account to a halted asset."""
    returns = np.random.default_rng(0).normal(0, 0.01, (600, 2))
    returns[200:500, 1] = 0.0
    risk = trailing_risk(returns)
    assert np.isfinite(risk[[205, 501], 1]).all()
    assert 0.005 < risk[501, 1] < 0.02, "and it is not forgotten during the halt"
    assert np.isnan(risk[215:500, 1]).all()
    forecast = np.full((600, 2), 1e-4)
    weights = weights_from_scores(forecast_scores(forecast, risk))
    assert (weights[215:500, 1] == 0).all()
    assert (weights[20:, 0] > 0.003).all()
