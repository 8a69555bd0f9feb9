"""Signals by arithmetic, and reliability of probabilities that are right by construction."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, log_loss

from crossattn.evidence.calibration import (
    calibration_error,
    plot_reliability,
    reliability,
    score_classes,
    to_signals,
    up_probability,
)

LOGITS = [[0, 0, np.log(2)], [5, 0, 0], [np.nan] * 3]


@pytest.mark.parametrize(
    ("predictions", "options", "signals", "weights"),
    [
        ([0.003, -0.001, 0.0001], {"band": 0.0005}, ["up", "down", "neutral"], [0.75, -0.25, 0.0]),
        ([0.003, np.nan, -0.001], {}, ["up", "neutral", "down"], [0.75, 0.0, -0.25]),
        ([0.0, 0.0], {}, ["neutral", "neutral"], [0.0, 0.0]),
        ([0.2, -0.5], {"output_type": "portfolio"}, ["up", "down"], [0.2, -0.5]),
        (LOGITS[::2], {"output_type": "classification"}, ["up", "neutral"], [1.0, 0.0]),
        (LOGITS[:1], {"output_type": "classification"}, ["up"], [1.0]),
        (LOGITS[1:2], {"output_type": "classification"}, ["down"], [-1.0]),
    ],
)
def test_signals_and_weights_of_unit_gross(predictions, options, signals, weights):
    table = to_signals(predictions, list("ABC")[: len(predictions)], **options)
    assert table["signal"].tolist() == signals
    np.testing.assert_allclose(table["target_weight"], weights)
    if predictions == LOGITS[:1]:
        assert table["strength"].iloc[0] == pytest.approx(0.5), "probability of the chosen class"


def test_true_probabilities_lie_on_the_diagonal(rng):
    mean, noise = rng.normal(size=(2, 40_000))
    p = up_probability(0.3 * mean, np.ones_like(mean))
    table = reliability(p.reshape(100, -1), (0.3 * mean + noise > 0).reshape(100, -1), n_bins=8)
    assert table["predicted"].between(table["low"], table["high"]).mean() > 0.7
    assert table["count"].sum() == 40_000
    assert table["observed"].is_monotonic_increasing
    interval = stats.binomtest(3, 10).proportion_ci(method="wilson")
    one = reliability(np.full(10, 0.3), np.arange(10) < 3, n_bins=1)
    assert one["low"].iloc[0] == pytest.approx(interval.low)
    assert plot_reliability(table).get_xlabel() == "predicted probability"


def test_calibration_error_by_a_slow_loop_and_at_its_size(rng):
    p = rng.uniform(0.1, 0.9, (300, 3))
    p[7, 1] = np.nan
    happened = (rng.random(p.shape) < p).astype(float)
    pairs = sorted((a, b) for a, b in zip(p.ravel(), happened.ravel(), strict=True) if a == a)
    bins = np.array_split(np.array(pairs), 10)
    wanted = sum(len(b) * abs(b[:, 0].mean() - b[:, 1].mean()) for b in bins) / len(pairs)
    found = calibration_error(p, happened)
    assert found.error == pytest.approx(wanted)
    right = rng.uniform(0.2, 0.8, (150, 500, 2))
    draws = [calibration_error(q, rng.random(q.shape) < q) for q in right]
    by_chance = np.mean([d.by_chance for d in draws])
    assert np.mean([d.error for d in draws]) == pytest.approx(by_chance, rel=0.1)
    assert np.mean([d.p_value < 0.05 for d in draws]) < 0.12
    assert calibration_error(p**2, happened).p_value < 0.001


def test_twins_count_once(rng):
    # ten copies of an asset are no more evidence than one
    p = rng.uniform(0.2, 0.8, (800, 1))
    happened = rng.random(p.shape) < p
    one, ten = (calibration_error(p.repeat(k, 1), happened.repeat(k, 1)) for k in (1, 10))
    assert ten.p_value == pytest.approx(one.p_value, abs=0.02)
    assert ten.by_chance == pytest.approx(one.by_chance, rel=0.02)


def test_class_scores_are_scikit_learns(rng):
    law = rng.dirichlet([3, 2, 3], (500, 4))
    labels = (rng.random((500, 4, 1)) > law.cumsum(axis=2)).sum(axis=2)
    labels[3] = -1
    sharp = law**2 / (law**2).sum(axis=2, keepdims=True)
    sharp[9, 2] = np.nan
    table = score_classes({"law": law, "sharp": sharp}, labels)
    known = (labels >= 0) & np.isfinite(sharp[..., 0])
    for name, p in (("law", law), ("sharp", sharp)):
        loss = log_loss(labels[known], p[known], labels=[0, 1, 2])
        accuracy = accuracy_score(labels[known], p[known].argmax(axis=1))
        assert table.loc[name, ["log_loss", "accuracy"]].tolist() == pytest.approx([loss, accuracy])
    assert table.loc["law", "calibration_p"] > 0.01 > table.loc["sharp", "calibration_p"]
    assert table.loc["sharp", "ece"] > 2 * table.loc["sharp", "ece_by_chance"]
    assert table.loc["sharp", "t"] < -3


def test_what_cannot_be_scored_is_refused(refuse_input):
    refuse_input(lambda: to_signals([0.1], ["A", "B"]), "shape")
    refuse_input(lambda: to_signals([0.1], ["A"], output_type="distribution"), "output_type")
    refuse_input(lambda: reliability([1.2, 0.1], [1, 0], n_bins=1), "between 0 and 1")
    refuse_input(lambda: reliability([0.2], [1, 0]), "happened")
    refuse_input(lambda: reliability([0.2], [1]), "n_bins")
    labels, odds = np.zeros((20, 2)), np.ones((20, 2, 1))
    refuse_input(lambda: score_classes({}, labels), "at least one")
    refuse_input(lambda: score_classes({"a": labels}, labels), "'a' must have shape")
    refuse_input(lambda: score_classes({"a": odds.repeat(3, 2)}, labels), "add up to 1")
    refuse_input(lambda: score_classes({"a": odds}, labels, reference="b"), "reference")
    refuse_input(lambda: calibration_error([0.5] * 5, [1] * 5, n_bins=2), "8 rows or more")
    refuse_input(lambda: calibration_error([], []), "n_bins must be 1 to 0")
    refuse_input(lambda: calibration_error(["high"], [1]), "probability must hold numbers")
