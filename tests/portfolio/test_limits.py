"""Limits of weights, against SciPy's solver and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from crossattn import CrossAttentionBacktest
from crossattn.errors import InvalidInputError
from crossattn.portfolio import Limits, mean_variance_weights

SYMBOLS = list("ABCDE")
SECTORS = {"A": "tech", "B": "tech", "C": "bank", "D": "bank", "E": "oil"}
BETAS = {"A": 1.3, "B": 0.8, "C": 1.1, "D": 0.4, "E": -0.2}
LONG = Limits(max_position={"A": 0.2, "C": 0.3}, sectors=SECTORS, max_sector=0.4)
NEUTRAL = Limits(
    max_position=0.5,
    allow_short=True,
    max_gross=0.9,
    sectors=SECTORS,
    max_sector={"tech": 0.5},
    sector_net={"tech": 0.0, "bank": 0.1},
    linear={"beta": (BETAS, 0.0, 0.0), "net": (1, -0.05, 0.05)},
)


def value(weights, limits):
    """Least slack of every limit of NEUTRAL or LONG, at least 0 where it is kept."""
    w = dict(zip(SYMBOLS, weights, strict=True))
    tech, bank = [w["A"], w["B"]], [w["C"], w["D"]]
    if limits is LONG:
        return np.array(
            [0.2 - w["A"], 0.3 - w["C"], *weights, 1 - sum(weights)]
            + [0.4 - sum(tech), 0.4 - sum(bank), 0.4 - w["E"]]
        )
    beta = sum(BETAS[s] * w[s] for s in SYMBOLS)
    return np.array(
        [*(0.5 - np.abs(weights)), 0.9 - np.abs(weights).sum()]
        + [0.5 - np.abs(tech).sum(), -abs(sum(tech)), 0.1 - abs(sum(bank))]
        + [-abs(beta), 0.05 - abs(sum(weights))]
    )


@pytest.mark.parametrize("limits", [LONG, NEUTRAL])
def test_keeps_every_limit_at_the_nearest_point(limits):
    wanted = np.random.default_rng(0).normal(0.1, 0.5, (20, 5))
    found = limits.nearest(wanted, SYMBOLS)
    for w, near in zip(wanted, found, strict=True):
        assert value(near, limits).min() > -1e-6
        kept = {"type": "ineq", "fun": lambda x: value(x, limits) + 1e-9}
        distance = lambda x, w=w: ((x - w) ** 2).sum()  # noqa: E731
        best = minimize(distance, near + 1e-3, constraints=kept, method="SLSQP")
        assert ((near - w) ** 2).sum() <= best.fun + 1e-4 or value(best.x, limits).min() < -1e-5
    again = limits.nearest(found * 0.999, SYMBOLS)
    np.testing.assert_allclose(again, found * 0.999, atol=1e-5)


def test_a_long_only_projection_by_hand():
    found = LONG.nearest([[0.3, 0.3, 0.1, 0.0, 0.2]], SYMBOLS)
    np.testing.assert_allclose(found, [[0.2, 0.2, 0.1, 0.0, 0.2]], atol=1e-4)
    kept = np.array([[0.1, 0.1, np.nan, 0.2, 0.0]])
    np.testing.assert_array_equal(LONG.nearest(kept, SYMBOLS), kept)  # nothing to do: as it was
    waits = [[0.1, 0.1, 0, 0, 0], [np.nan, 0.7, 0, 0, 0]]  # no order stays none, and its weight
    found = LONG.nearest(waits, SYMBOLS)
    np.testing.assert_allclose(found, [waits[0], [np.nan, 0.3, 0, 0, 0]], atol=1e-4)
    full = Limits(max_position=0.4, linear={"invested": (1, 1, 1)})
    closed = full.nearest([[0.2, 0.2, np.nan, np.nan, np.nan], [0.2] * 5], SYMBOLS)
    assert np.isnan(closed[0]).all()  # two open assets cannot hold it all: nothing is ordered
    np.testing.assert_allclose(closed[1], 0.2, atol=1e-4)


@pytest.mark.parametrize(
    "options, names",
    [
        ({"max_position": 0.1, "linear": {"invested": (1, 1, 1)}}, ["max_position of 'A'"]),
        ({"max_gross": 0.5, "linear": {"floor": ({"B": 1}, 0.6, 1)}}, ["max_gross", "'floor'"]),
        (
            {"sectors": SECTORS, "max_sector": {"oil": 0.1}, "linear": {"e": ({"E": 2}, 0.3, 1)}},
            ["max_sector of 'oil'", "linear 'e'"],
        ),
    ],
)
def test_limits_that_contradict_each_other_are_named(options, names):
    with pytest.raises(InvalidInputError, match="cannot hold together") as caught:
        Limits(**options).nearest(np.zeros((1, 5)), SYMBOLS)
    assert all(name in str(caught.value) for name in names)
    innocent = {"max_gross", "max_position"} - {name.split()[0] for name in names}
    assert not any(name in str(caught.value) for name in innocent)


def test_refuses_by_name(refuse_input):
    def nearest(**options):
        return Limits(**options).nearest(np.ones((1, 5)), SYMBOLS)

    refuse_input(lambda: nearest(max_position=-0.1), "max_position")
    refuse_input(lambda: nearest(max_position={"X": 0.1}), "names 'X'")
    refuse_input(lambda: nearest(max_sector=0.5), "sectors must name")
    refuse_input(lambda: nearest(linear={"beta": (BETAS, 1, 0)}), "low <= high")
    refuse_input(lambda: nearest(linear={"beta": BETAS}), "'beta' must be")
    words = "'beta' must have bounds, got '0'"
    refuse_input(lambda: nearest(linear={"beta": (BETAS, "0", 1)}), words)
    words = "linear must be a mapping of at least one name, got list"
    refuse_input(lambda: nearest(linear=[BETAS]), words)
    none, gold = {"max_sector": {"oil": None}}, {"sector_net": {"gold": 0.5}}
    refuse_input(lambda: nearest(sectors=SECTORS, **none), "max_sector must be .* got None")
    refuse_input(lambda: nearest(sectors=SECTORS, **gold), "names 'gold'")
    refuse_input(lambda: nearest(sectors={"A": "tech"}, max_sector=0.5), "sectors lack B, C")
    refuse_input(lambda: Limits().nearest([[np.inf, 0.1]], ["A", "B"]), "weights must be finite")
    steep = Limits(linear={"steep": ({"A": 1e100}, -1, 1)})
    refuse_input(lambda: steep.nearest([[0.9, 0.5, 0.5]], SYMBOLS[:3]), "too extreme")
    large = Limits(max_gross=1e4, max_position=1e4)
    refuse_input(lambda: large.nearest([[1e6, 1, 1]], SYMBOLS[:3]), "too extreme")


@pytest.mark.parametrize("size", [3e4, 1e6, 1e300])
def test_huge_weights_are_brought_within_the_limits(size):
    found = Limits().nearest([[size, 0.5 * size, 0.5], [np.nan, size, 0]], SYMBOLS[:3])
    np.testing.assert_allclose(found, [[1, 0, 0], [np.nan, 0, 0]], atol=2e-6)
    found = Limits(max_gross=20, max_position=12).nearest([[size, size, 1]], SYMBOLS[:3])
    np.testing.assert_allclose(found, [[10, 10, 0]], atol=2e-5)


def test_mean_variance_and_the_backtest_keep_them(refuse_input, rng):
    covariance = pd.DataFrame(np.eye(5) * 1e-3, SYMBOLS, SYMBOLS)
    found = mean_variance_weights([4e-3, 1e-3, 3e-3, -2e-3, 1e-3], covariance, limits=NEUTRAL)
    assert value(found, NEUTRAL).min() > -1e-5 and np.abs(found).sum() > 0.1

    forecast, returns = rng.normal(0, 0.02, (40, 5)), rng.normal(0, 0.01, (40, 5))
    times = pd.date_range("2024-01-01", periods=40, freq="h", tz="UTC")
    X = np.tile(rng.normal(0, 0.01, (40, 1, 6, 1)), (1, 5, 1, 1))
    model = lambda X: forecast[: len(X)]  # noqa: E731
    backtest = CrossAttentionBacktest(model, rebalance_freq=1, limits=NEUTRAL)
    results = backtest.run(X, pd.DataFrame(returns, columns=SYMBOLS), times)
    weights = results.attrs["weights"].to_numpy()[:-1]
    assert min(value(w, NEUTRAL).min() for w in weights) > -2e-3  # after costs
    assert np.abs(weights).sum(axis=1).max() > 0.3
    twice = {"limits": NEUTRAL, "max_position": 0.2}
    refuse_input(lambda: CrossAttentionBacktest(lambda X: forecast, **twice), "limits hold")
