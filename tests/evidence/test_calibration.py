"""Signals by arithmetic, and reliability of probabilities that are right by construction."""

import numpy as np
import pytest
from scipy import stats

from crossattn.errors import InvalidInputError
from crossattn.evidence.calibration import plot_reliability, reliability, to_signals, up_probability


def test_returns_become_signals_with_unit_gross_weights():
    table = to_signals([0.003, -0.001, 0.0001], ["A", "B", "C"], band=0.0005)
    assert table["signal"].tolist() == ["up", "down", "neutral"]
    np.testing.assert_allclose(table["target_weight"], [0.75, -0.25, 0.0])
    assert not to_signals([0.0, 0.0], ["A", "B"])["target_weight"].any()


def test_logits_become_probabilities_of_the_chosen_class():
    table = to_signals([[0, 0, np.log(2)], [5, 0, 0]], ["A", "B"], output_type="classification")
    assert table["signal"].tolist() == ["up", "down"]
    assert table["strength"].iloc[0] == pytest.approx(0.5)


def test_weights_stay_what_they_are():
    table = to_signals([0.2, -0.5], ["A", "B"], output_type="portfolio")
    assert table["target_weight"].tolist() == [0.2, -0.5]


def test_an_unknown_prediction_is_neutral_and_holds_nothing():
    table = to_signals([0.003, np.nan, -0.001], ["A", "B", "C"])
    assert table["signal"].tolist() == ["up", "neutral", "down"]
    np.testing.assert_allclose(table["target_weight"], [0.75, 0.0, -0.25])
    logits = [[0, 0, np.log(2)], [np.nan] * 3]
    table = to_signals(logits, ["A", "B"], output_type="classification")
    assert table["signal"].tolist() == ["up", "neutral"]
    np.testing.assert_allclose(table["target_weight"], [1.0, 0.0])


def test_true_probabilities_lie_on_the_diagonal():
    generator = np.random.default_rng(0)
    mean, noise = generator.normal(size=(2, 40_000))
    p = up_probability(0.3 * mean, np.ones_like(mean))
    table = reliability(p.reshape(100, -1), (0.3 * mean + noise > 0).reshape(100, -1), n_bins=8)
    assert (
        (table["low"] <= table["predicted"]) & (table["predicted"] <= table["high"])
    ).mean() > 0.7
    assert table["count"].sum() == 40_000
    assert table["observed"].is_monotonic_increasing
    interval = stats.binomtest(3, 10).proportion_ci(method="wilson")
    one = reliability(np.full(10, 0.3), np.arange(10) < 3, n_bins=1)
    assert one["low"].iloc[0] == pytest.approx(interval.low)
    assert plot_reliability(table).get_xlabel() == "predicted probability"


def test_refusals():
    with pytest.raises(InvalidInputError, match="shape"):
        to_signals([0.1], ["A", "B"])
    with pytest.raises(InvalidInputError, match="output_type"):
        to_signals([0.1], ["A"], output_type="distribution")
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        reliability([1.2, 0.1], [1, 0], n_bins=1)
    with pytest.raises(InvalidInputError, match="happened"):
        reliability([0.2], [1, 0])
    with pytest.raises(InvalidInputError, match="n_bins"):
        reliability([0.2], [1])
