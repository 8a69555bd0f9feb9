"""The oracle of simulated markets: the conditional mean, exact, and blind to later shocks."""

import numpy as np
import pytest

from crossattn.features import relative_volume
from crossattn.simulate import SimulatedMarket, simulate_market
from crossattn.simulate.dynamics import Dynamics, Edges, always, correct_errors
from crossattn.simulate.scenarios import SCENARIOS

LED = [name for name in SCENARIOS if name not in ("null", "factor", "asynchronous", "spillover")]
NEW = LED[LED.index("delays") :]


def forecast_slope(market: SimulatedMarket) -> tuple[float, float]:
    """Slope of the next return on the oracle and its robust standard error, weighted."""
    x, y = market.oracle[:-1], market.returns[1:]
    weight = 1 / market.volatility[1:] ** 2
    slope = (weight * x * y).sum() / (weight * x**2).sum()
    # assets of one bar share factors, so a bar is one observation
    score = (weight * x * (y - slope * x)).sum(axis=1)
    return slope, np.sqrt((score**2).sum()) / (weight * x**2).sum()


def test_the_oracle_is_the_conditional_mean(markets):
    """Regressing the next return on the oracle gives slope one, in every scenario that has one."""
    for name in [*LED, "asynchronous"]:
        slope, error = forecast_slope(markets[name])
        assert abs(slope - 1) < 3 * error, (name, slope, error)
        assert error < 0.08, name


def test_what_the_oracle_leaves_is_noise_of_the_stated_volatility(markets):
    for name in [*LED, "null", "factor"]:
        market = markets[name]
        noise = (market.returns[1:] - market.oracle[:-1]) / market.volatility[1:]
        assert abs(noise.std() - 1) < 0.05, name
        lagged = (noise[1:] * noise[:-1]).mean()
        assert abs(lagged) < 0.02, name


def test_no_past_return_predicts_what_the_oracle_leaves(markets):
    """A regression on eight lags of every asset finds no more than chance would."""
    market = markets["static"]
    noise = (market.returns[1:] - market.oracle[:-1]) / market.volatility[1:]
    scaled = market.returns / market.volatility
    x = np.concatenate([scaled[8 - lag : -1 - lag] for lag in range(8)], axis=1)
    y = noise[8:]
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    explained = 1 - residual.var() / y.var()
    assert explained < 1.35 * x.shape[1] / len(x)


def oracle_from_frames(market: SimulatedMarket) -> np.ndarray:
    """The oracle by the formulas of the docstring: slow loops over frames and published states."""
    frames = market.frames.values()
    first = np.array([f["open"].iloc[0] for f in frames])
    price = np.log(np.stack([f["close"] for f in frames], axis=1) / first)
    r = np.diff(price, axis=0, prepend=0.0)
    volume = np.stack([relative_volume(f["volume"]).fillna(0.0) for f in frames], axis=1)
    known_volume = relative_volume(market.panel["volume"]).to_numpy()
    gate = known_volume >= np.nanquantile(known_volume, 0.8, axis=0)
    state = market.regimes.to_numpy()
    noise = r - np.vstack([np.zeros(r.shape[1]), market.oracle[:-1]])
    mean_fall = np.minimum(noise, 0).mean(axis=0)
    unit = simulate_market("null", n_assets=r.shape[1], n_steps=2, volatility="constant", seed=3)
    unit = unit.volatility[0]  # ordinary volatility: of the seed alone
    hour = market.panel.index.hour
    position = {symbol: i for i, symbol in enumerate(market.symbols)}

    def moved_most(t):
        return np.argmax(abs(r[max(0, t - 11) : t + 1].sum(axis=0)) / unit)

    def product(e, s):
        p, q = position[e.partner], s - (e.partner_lag - e.lag)
        return np.tanh(r[q, p] / unit[p]) if q >= 0 else 0.0

    in_session = [set((h + np.arange(8)) % 24) for h in market.edges.get("first_hour", ())]
    terms = {
        "gated": lambda e, j, i, s, t: r[s, j] * gate[s, j],
        "regimes": lambda e, j, i, s, t: r[s, j] * (e.regime == state[t]),
        "crisis": lambda e, j, i, s, t: r[s, j] * (e.regime == state[t]),
        "switching": lambda e, j, i, s, t: r[s, j] * (t > 0 and known_volume[t].argmax() == j),
        "threshold": lambda e, j, i, s, t: r[s, j] * (abs(r[s, j]) > 1.5 * unit[j]),
        "falls": lambda e, j, i, s, t: min(r[s, j], 0.0) - mean_fall[j],
        "volume": lambda e, j, i, s, t: volume[s, j],
        "concave": lambda e, j, i, s, t: np.sign(r[s, j]) * abs(r[s, j]) ** 0.5,
        "levels": lambda e, j, i, s, t: price[t, j] - price[t, i],
        "mover": lambda e, j, i, s, t: r[s, j] * (moved_most(t) == j),
        "hours": lambda e, j, i, s, t: r[s, j] * (hour[t] in in_session[e.Index]),
        "drift": lambda e, j, i, s, t: r[s, j] * market.coefficients[t, e.Index] / e.strength,
        "products": lambda e, j, i, s, t: r[s, j] * product(e, s),
    }
    term = terms.get(market.scenario, lambda e, j, i, s, t: r[s, j])
    oracle = np.zeros_like(r)
    for e in market.edges.itertuples():
        j, i = position[e.leader], position[e.follower]
        for t in range(e.lag - 1, len(r)):
            oracle[t, i] += e.strength * term(e, j, i, t - e.lag + 1, t)
    return oracle


@pytest.mark.parametrize("name", LED)
def test_the_oracle_follows_from_the_frames(name):
    market = simulate_market(name, n_assets=5, n_steps=700, predictability=0.04, seed=3)
    np.testing.assert_allclose(market.oracle, oracle_from_frames(market), atol=1e-12)
    assert np.abs(market.oracle).max() > 1e-4


@pytest.mark.parametrize("name", [n for n in NEW if n != "levels"])
def test_later_shocks_leave_the_oracle_as_it_is(name, monkeypatch):
    seen = []
    calibrate = Dynamics.calibrated
    monkeypatch.setattr(Dynamics, "calibrated", lambda *a: seen.append(calibrate(*a)) or seen[-1])
    market = simulate_market(name, n_assets=5, n_steps=400, seed=6)
    noise = market.returns.T.copy()
    noise[:, 1:] -= market.oracle.T[:, :-1]
    later = noise.copy()
    later[:, 251:] = np.random.default_rng(0).permutation(later[:, 251:], axis=1)[::-1]
    (returns, oracle), (changed, same) = (seen[0].run(path, path) for path in (noise, later))
    np.testing.assert_allclose(oracle.T, market.oracle, atol=1e-14)
    np.testing.assert_allclose(same[:, :251], oracle[:, :251], atol=1e-15)
    assert (changed[:, 251:] != returns[:, 251:]).any()
    # and what the drive says of a path does not read its later bars either
    np.testing.assert_array_equal(seen[0].drive(later)[:, :251], seen[0].drive(noise)[:, :251])


def test_later_shocks_leave_the_pull_of_prices_as_it_is():
    edges = Edges(*(np.array(v) for v in ([2, 2], [0, 1], [1, 1], [1.0, 1.0], [0, 0])))
    noise = np.random.default_rng(1).standard_normal((3, 90))  # short: not calibrated on the path
    later = noise.copy()
    later[:, 61:] *= -3
    (_, oracle, _), (_, same, _) = (correct_errors(edges, path, 0.1) for path in (noise, later))
    np.testing.assert_array_equal(same[:, :61], oracle[:, :61])
    assert (same[:2, 61:] != oracle[:2, 61:]).any()


def test_spillover_variances_follow_from_returns_by_the_stated_recursion():
    market = simulate_market("spillover", n_assets=4, n_steps=3000, seed=2)
    assert len(set(market.edges["leader"])) == 1 and len(market.edges) == 3
    ordinary = market.volatility[0] ** 2
    squares, variance = market.returns**2 / ordinary, market.oracle_volatility**2 / ordinary
    edges = market.edges.set_index("follower")
    for i, symbol in enumerate(market.symbols):
        wanted = 0.22 + 0.08 * squares[50:-1, i] + 0.7 * variance[49:-2, i]
        if symbol in edges.index:
            hub, lag = market.symbols.index(edges.loc[symbol, "leader"]), edges.loc[symbol, "lag"]
            wanted += 0.15 * (squares[51 - lag : len(squares) - lag, hub] - 1)
            assert (market.leaders[:, i] == hub).all()
        np.testing.assert_allclose(variance[50:-1, i], wanted)
    assert not market.oracle.any() and np.isnan(market.oracle_volatility[-1]).all()
    assert simulate_market("spillover", n_steps=50, spillover=0.0).edges.empty


def test_returns_that_feed_on_themselves_are_refused(refuse_input):
    edges = Edges(*(np.array(v) for v in ([0, 1], [1, 0], [1, 1], [1.5, 1.5], [0, 0])))
    shocks = np.random.default_rng(0).standard_normal((2, 400))
    refuse_input(lambda: Dynamics(edges, always).run(shocks, shocks), "too large")
