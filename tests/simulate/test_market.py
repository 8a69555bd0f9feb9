"""Simulated markets: valid bars that look like hourly ones, options, reproducible draws."""

import hashlib
import time

import numpy as np
import pandas as pd
import pytest

from crossattn.data.frame import check_frames, close_times
from crossattn.simulate import SimulatedMarket, simulate_market
from crossattn.simulate._shocks import Groups, factor_loadings
from crossattn.simulate.scenarios import SCENARIOS


@pytest.fixture(params=SCENARIOS)
def market(request, markets) -> SimulatedMarket:
    return markets[request.param]


def test_shapes_and_labels(market):
    assert market.returns.shape == market.oracle.shape == market.leaders.shape == (6_000, 7)
    assert market.volatility.shape == (6_000, 7)
    assert market.symbols == list(market.sectors) == list(market.markets) == list(market.frames)
    details = {"hours": ["first_hour", "last_hour"], "products": ["partner", "partner_lag"]}
    columns = ["leader", "follower", "lag", "strength", "regime"]
    assert list(market.edges) == columns + details.get(market.scenario, [])
    assert (market.edges["leader"] != market.edges["follower"]).all()
    assert market.regimes.index.equals(market.panel.index)
    assert market.regimes.name == "regime"
    # a market is made of whole sectors
    pairs = {(market.sectors[s], market.markets[s]) for s in market.symbols}
    assert len(pairs) == len(set(market.sectors.values()))


def test_bars_are_valid_and_make_the_returns(market):
    check_frames(market.frames)
    for i, frame in enumerate(market.frames.values()):
        close = frame["close"].to_numpy()
        assert (frame["volume"] > 0).all()
        np.testing.assert_allclose(np.diff(np.log(close)), market.returns[1:, i], atol=1e-12)
        np.testing.assert_array_equal(frame["open"].to_numpy()[1:], close[:-1])
        assert close_times(frame).equals(market.panel.index)


def test_returns_look_like_hourly_bars():
    """Tails, clustering, correlation and volume of the size that hourly crypto shows."""
    market = simulate_market("static", seed=6)
    returns = market.returns
    size = np.abs(returns)
    kurtosis = (returns**4).mean(axis=0) / (returns**2).mean(axis=0) ** 2
    assert 6 < np.median(kurtosis) < 40
    clustering = [np.corrcoef(size[:-24, i], size[24:, i])[0, 1] for i in range(10)]
    assert 0.08 < np.mean(clustering) < 0.35
    assert np.corrcoef(returns.T)[np.triu_indices(10, 1)].mean() == pytest.approx(0.25, abs=0.03)
    volume = np.log(market.panel["volume"].to_numpy())
    together = [np.corrcoef(volume[:, i], np.log(size[:, i]))[0, 1] for i in range(10)]
    assert 0.3 < np.mean(together) < 0.7


def test_sectors_move_together():
    market = simulate_market("null", n_assets=12, seed=2)
    correlation = np.corrcoef(market.returns.T)
    sector = np.array([market.sectors[s] for s in market.symbols])
    same = (sector[:, None] == sector) & ~np.eye(12, dtype=bool)
    assert correlation[same].mean() > correlation[sector[:, None] != sector].mean() + 0.08


@pytest.mark.parametrize("correlation", [0.4, 0.55, 0.6, 0.9])
@pytest.mark.parametrize("n_assets", [2, 4])
def test_assets_in_sectors_of_their_own_are_as_correlated_as_asked(n_assets, correlation):
    options = {"n_sectors": n_assets, "correlation": correlation, "volatility": "constant"}
    returns = simulate_market("null", n_assets=n_assets, n_steps=9_000, **options).returns
    found = np.corrcoef(returns.T)[np.triu_indices(n_assets, 1)].mean()
    assert found == pytest.approx(correlation, abs=0.03)
    loadings = factor_loadings(Groups(np.arange(n_assets), np.arange(n_assets) % 2), correlation)
    assert (loadings**2).sum(axis=1).max() < 1 + 1e-12


def test_highs_and_lows_are_those_of_a_random_walk():
    """Parkinson's mean of squared log range of a driftless walk is 4 log 2 times its variance."""
    market = simulate_market("null", n_assets=3, n_steps=20_000, tail=1e6, volatility="constant")
    for i, frame in enumerate(market.frames.values()):
        squares = np.log(frame["high"] / frame["low"]) ** 2
        expected = 4 * np.log(2) * market.volatility[0, i] ** 2
        assert squares.mean() == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_seed_gives_the_same_bits(name):
    def digest(seed: int) -> str:
        market = simulate_market(name, n_assets=3, n_steps=300, seed=seed)
        parts = [market.panel.to_numpy(), market.oracle, market.leaders, market.returns]
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

    assert digest(9) == digest(9)
    assert digest(9) != digest(10)


def test_scenarios_of_one_seed_share_their_shocks():
    null, static = (simulate_market(name, n_steps=500, seed=3) for name in ("null", "static"))
    shocks = static.returns[1:] - static.oracle[:-1]
    np.testing.assert_allclose(shocks, null.returns[1:], atol=1e-15)


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    simulate_market(n_assets=2, n_steps=50)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_options_are_obeyed():
    graph = {"n_assets": 8, "leaders_per_follower": 3, "max_lag": 2, "n_sectors": 4}
    clock = {"n_steps": 600, "bar": "15min", "start": "2020-06-01"}
    size = {"bar_volatility": 0.02, "volatility": "constant"}
    market = simulate_market(**graph, **clock, **size)
    assert (market.edges.groupby("follower")["leader"].nunique() == 3).all()
    assert set(market.edges["lag"]) == {1, 2}
    assert len(set(market.sectors.values())) == 4
    assert market.panel.index[0] == pd.Timestamp("2020-06-01 00:15", tz="UTC")
    assert market.panel.index[1] - market.panel.index[0] == pd.Timedelta("15min")
    assert 0.015 < market.returns.std() < 0.027
    assert (market.volatility.std(axis=0) < 1e-15).all()


def test_garch_clusters_and_stays_noise():
    market = simulate_market("null", volatility="garch", n_steps=8_000, seed=1)
    size = np.abs(market.returns[:, 0])
    assert np.corrcoef(size[:-1], size[1:])[0, 1] > 0.08
    lagged = np.corrcoef(market.returns[:-1, 0], market.returns[1:, 0])[0, 1]
    assert abs(lagged) < 0.06


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize(("n_assets", "n_steps"), [(2, 2), (3, 5), (2, 60), (4, 130)])
def test_tiny_markets_stand(name, n_assets, n_steps):
    market = simulate_market(name, n_assets=n_assets, n_steps=n_steps)
    assert np.isfinite(market.oracle).all()
    assert len(market.panel) == n_steps


def test_twenty_thousand_bars_of_ten_assets_come_in_time():
    simulate_market("gated", n_steps=200)
    started = time.process_time()
    simulate_market("gated")
    assert time.process_time() - started < 2


REFUSED = [
    ("scenario must be one of static, null", [{"scenario": s} for s in ("stationary", ["static"])]),
    ("n_assets must be an integer of at least 2, got 1", [{"n_assets": 1}]),
    ("n_assets", [{"n_assets": 2.0}, {"n_assets": True}, {"n_assets": "10"}]),
    ("n_steps", [{"n_steps": 1}, {"n_steps": 1e4}, {"n_steps": None}]),
    ("at most 50,000,000 bars", [{"n_steps": 10**9}]),
    ("predictability must be a finite number above 0", [{"predictability": 0}]),
    ("predictability", [{"predictability": p} for p in (0.9, float("nan"), "2%", True)]),
    ("seed", [{"seed": -1}, {"seed": 1.5}]),
    ("unknown option 'n_asset'", [{"n_asset": 5}]),
    ("correlation", [{"correlation": 1.0}, {"correlation": -0.1}, {"crisis_correlation": 2}]),
    ("max_lag", [{"max_lag": 0}, {"max_lag": 10_001}]),
    ("min_lag must be at most max_lag", [{"min_lag": 7}, {"scenario": "delays", "max_lag": 8}]),
    ("mover_window", [{"mover_window": 0}, {"mover_window": 2.5}]),
    ("active_hours", [{"active_hours": 0}, {"active_hours": 25}]),
    ("drift_half_life", [{"drift_half_life": 0}, {"drift_half_life": float("nan")}]),
    ("bar must be at most 8h in 'hours'", [{"scenario": "hours", "bar": "1D"}]),
    ("n_sectors must be at least 2", [{"scenario": "sectors", "n_sectors": 1}]),
    ("leaders_per_follower", [{"leaders_per_follower": 0}]),
    ("leaders_per_follower must be below n_assets", [{"leaders_per_follower": 10}]),
    ("tail", [{"tail": 2}, {"tail": float("nan")}, {"tail": float("inf")}]),
    ("volatility must be one of stochastic", [{"volatility": "rough"}, {"volatility": 0.2}]),
    ("bar_volatility", [{"bar_volatility": 0}, {"bar_volatility": 5}]),
    ("regime_volatility", [{"regime_volatility": 0}]),
    ("n_sectors", [{"n_sectors": 11}]),
    ("bar and start", [{"bar": "soon"}, {"bar": "-1h"}, {"bar": None}, {"start": "NaT"}]),
    ("change", [{"change": "edges"}]),
    ("regime_durations", [{"regime_durations": d} for d in (400, (400,), (0, 400), ("a", "b"))]),
    ("threshold", [{"threshold": -1}]),
    ("spillover", [{"spillover": -0.1}, {"spillover": 0.5}]),
    ("gate_share", [{"gate_share": 0}, {"gate_share": 1.5}]),
]


@pytest.mark.parametrize(("words", "cases"), REFUSED)
def test_bad_options_are_refused(words, cases, refuse_input):
    for arguments in cases:
        refuse_input(lambda given=arguments: simulate_market(**{"n_steps": 20, **given}), words)
