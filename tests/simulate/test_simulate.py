"""Simulated markets: exact oracle, published truth, valid bars, reproducible draws."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pandas as pd
import pytest

from crossattn.data.frame import check_frames, close_times
from crossattn.errors import InvalidInputError
from crossattn.features import relative_volume
from crossattn.simulate import SimulatedMarket, simulate_market
from crossattn.simulate._builder import MAX_PREDICTABILITY
from crossattn.simulate.dynamics import Dynamics, Edges, always, in_state, when_large, when_open
from crossattn.simulate.scenarios import SCENARIOS

LED = ["static", "switching", "gated", "regimes", "threshold", "hub", "crisis"]
LOG_2 = np.log(2)


@pytest.fixture(scope="module", params=SCENARIOS)
def market(request) -> SimulatedMarket:
    return simulate_market(request.param, n_assets=7, n_steps=6_000, seed=5)


@pytest.fixture(scope="module")
def markets() -> dict[str, SimulatedMarket]:
    return {
        name: simulate_market(name, n_assets=7, n_steps=6_000, predictability=0.05, seed=8)
        for name in SCENARIOS
    }


def forecast_slope(market: SimulatedMarket) -> tuple[float, float]:
    """Slope of the next return on the oracle and its robust standard error, weighted."""
    x, y = market.oracle[:-1], market.returns[1:]
    weight = 1 / market.volatility[1:] ** 2
    slope = (weight * x * y).sum() / (weight * x**2).sum()
    # assets of one bar share factors, so a bar is one observation
    score = (weight * x * (y - slope * x)).sum(axis=1)
    return slope, np.sqrt((score**2).sum()) / (weight * x**2).sum()


def test_shapes_and_labels(market):
    assert market.returns.shape == market.oracle.shape == market.leaders.shape == (6_000, 7)
    assert market.volatility.shape == (6_000, 7)
    assert market.symbols == list(market.sectors) == list(market.markets) == list(market.frames)
    assert list(market.edges) == ["leader", "follower", "lag", "strength", "regime"]
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


def drive_by_loops(market: SimulatedMarket, fires) -> np.ndarray:
    """The oracle again, edge by edge and bar by bar, from the published edges and returns."""
    oracle = np.zeros_like(market.returns)
    position = {symbol: i for i, symbol in enumerate(market.symbols)}
    for edge in market.edges.itertuples():
        j, i = position[edge.leader], position[edge.follower]
        for t in range(edge.lag - 1, len(oracle)):
            leading = t - edge.lag + 1
            if fires(edge, j, leading, t):
                oracle[t, i] += edge.strength * market.returns[leading, j]
    return oracle


def test_the_oracle_follows_from_the_published_edges():
    size = {"n_assets": 5, "n_steps": 400, "seed": 2}
    volumes = {}
    for name in ("gated", "switching"):
        wide = simulate_market(name, **size).panel["volume"]
        volumes[name] = relative_volume(wide).to_numpy()
    open_gate = volumes["gated"] >= np.nanquantile(volumes["gated"], 0.8, axis=0)
    regimes = simulate_market("regimes", **size).regimes.to_numpy()
    crisis = simulate_market("crisis", **size).regimes.to_numpy()
    rules = {
        "static": lambda edge, j, leading, t: True,
        "hub": lambda edge, j, leading, t: True,
        "gated": lambda edge, j, leading, t: open_gate[leading, j],
        "regimes": lambda edge, j, leading, t: edge.regime == regimes[t],
        "crisis": lambda edge, j, leading, t: edge.regime == crisis[t],
        "switching": lambda edge, j, leading, t: t > 0 and volumes["switching"][t].argmax() == j,
    }
    for name, rule in rules.items():
        market = simulate_market(name, **size)
        np.testing.assert_allclose(
            market.oracle, drive_by_loops(market, rule), atol=1e-15, err_msg=name
        )


def test_a_threshold_looks_at_the_leading_move():
    market = simulate_market("threshold", n_assets=5, n_steps=3_000, seed=2)
    moves = np.abs(market.returns)
    position = {symbol: i for i, symbol in enumerate(market.symbols)}
    for edge in market.edges.itertuples():
        leading = moves[: len(moves) - edge.lag + 1, position[edge.leader]]
        led = market.leaders[edge.lag - 1 :, position[edge.follower]] == position[edge.leader]
        if led.any():
            assert leading[led].min() > 1.2 * np.median(leading)


@pytest.mark.parametrize("name", [*LED, "asynchronous"])
@pytest.mark.parametrize("wanted", [0.002, 0.02, 0.2])
def test_predictability_is_hit(name, wanted):
    market = simulate_market(name, n_steps=4_000, predictability=wanted, seed=4)
    each = market.oracle[:-1].var(axis=0) / market.returns[1:].var(axis=0)
    assert market.predictability == pytest.approx(wanted, rel=1e-3)
    if name not in ("hub", "asynchronous"):
        np.testing.assert_allclose(each, wanted, rtol=1e-3)


def test_the_largest_predictability_settles_or_says_so():
    market = simulate_market("static", n_steps=2_000, predictability=MAX_PREDICTABILITY)
    assert market.predictability == pytest.approx(MAX_PREDICTABILITY, rel=1e-3)


@pytest.mark.parametrize("name", ["null", "factor"])
def test_nobody_leads_in_a_null_market(name):
    market = simulate_market(name, n_assets=4, n_steps=3_000)
    assert market.edges.empty
    assert not market.oracle.any()
    assert (market.leaders == -1).all()
    assert market.predictability == 0


def test_late_quotes_look_led_by_early_ones_and_not_the_other_way_round():
    market = simulate_market("asynchronous", predictability=0.2, n_steps=8_000, seed=1)
    returns = market.returns / market.volatility
    late = np.arange(10) % 2 == 1
    lagged = (returns[:-1].T @ returns[1:]) / len(returns)  # (leader, follower)
    assert lagged[np.ix_(~late, late)].min() > 0.08
    assert np.abs(lagged[np.ix_(late, ~late)]).max() < 0.05
    assert market.edges.empty
    assert (market.leaders == -1).all()
    assert not market.oracle[:, ~late].any()


def test_true_leaders_are_the_strongest_firing_edges(markets):
    static = markets["static"]
    strongest = static.edges.assign(size=static.edges["strength"].abs()).sort_values("size")
    truth = strongest.groupby("follower")["leader"].last()
    for i, symbol in enumerate(static.symbols):
        assert static.symbols[static.leaders[-1, i]] == truth[symbol]
    assert (static.leaders[10:] == static.leaders[10]).all()


def test_the_leader_of_the_moment_has_the_highest_relative_volume(markets):
    market = markets["switching"]
    chosen = relative_volume(market.panel["volume"]).to_numpy()[1:].argmax(axis=1)
    followers = np.arange(7)
    expected = np.where(chosen[:, None] == followers, -1, chosen[:, None])
    np.testing.assert_array_equal(market.leaders[1:], expected)
    assert set(market.edges["lag"]) == {1}
    assert len(market.edges) == 42


def test_a_gate_is_open_a_fifth_of_the_time(markets):
    gated = markets["gated"]
    assert (gated.edges["regime"] == 0).all()
    # two edges a follower, each closed four fifths of the time
    assert (gated.leaders == -1).mean() == pytest.approx(0.64, abs=0.03)
    narrow = simulate_market("gated", n_assets=4, n_steps=3_000, gate_share=0.05)
    assert (narrow.leaders == -1).mean() > 0.85


def test_regimes_have_two_graphs_and_show_in_volatility(markets):
    market = markets["regimes"]
    state = market.regimes.to_numpy().astype(bool)
    assert 0.2 < state.mean() < 0.8
    assert market.returns[state].std() / market.returns[~state].std() == pytest.approx(1.8, rel=0.2)
    graphs = [
        set(zip(part["leader"], part["follower"], part["lag"], strict=True))
        for _, part in market.edges.groupby("regime")
    ]
    assert len(graphs) == 2
    assert graphs[0] != graphs[1]
    assert {len(graph) for graph in graphs} == {14}


def test_regimes_may_flip_signs_and_hide_from_volatility():
    market = simulate_market("regimes", change="sign", regime_volatility=1.0, n_steps=3_000)
    calm, wild = (part.reset_index() for _, part in market.edges.groupby("regime"))
    assert (calm["leader"] == wild["leader"]).all()
    np.testing.assert_allclose(calm["strength"], -wild["strength"])
    state = market.regimes.to_numpy().astype(bool)
    assert market.volatility[state].mean() == pytest.approx(
        market.volatility[~state].mean(), rel=0.3
    )


def test_a_crisis_raises_correlation_and_volatility(markets):
    market = simulate_market("crisis", n_steps=12_000, seed=3)
    state = market.regimes.to_numpy().astype(bool)
    assert 0.05 < state.mean() < 0.4
    off = np.triu_indices(10, 1)
    calm, crisis = (np.corrcoef(market.returns[s].T)[off].mean() for s in (~state, state))
    assert calm == pytest.approx(0.25, abs=0.05)
    assert crisis == pytest.approx(0.7, abs=0.1)
    edges = markets["crisis"].edges
    first, second = (part.drop(columns="regime") for _, part in edges.groupby("regime"))
    pd.testing.assert_frame_equal(first, second.set_axis(first.index))


def test_a_hub_leads_all_others(markets):
    market = markets["hub"]
    hub = market.edges["leader"].mode()[0]
    led = market.edges[market.edges["leader"] == hub]
    assert set(led["follower"]) == set(market.symbols) - {hub}
    position = market.symbols.index(hub)
    others = np.arange(7) != position
    assert (market.leaders[10:, others] == position).all()
    assert (market.leaders[:, position] == -1).all()
    assert hub not in set(market.edges["follower"])
    small = (simulate_market("hub", n_assets=4, n_steps=50, seed=seed) for seed in range(8))
    assert len({m.edges["leader"].mode()[0] for m in small}) > 1, "any asset may be the hub"


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


def test_highs_and_lows_are_those_of_a_random_walk():
    """Parkinson's mean of squared log range of a driftless walk is 4 log 2 times its variance."""
    market = simulate_market("null", n_assets=3, n_steps=20_000, tail=1e6, volatility="constant")
    for i, frame in enumerate(market.frames.values()):
        log_range = np.log(frame["high"] / frame["low"])
        assert (log_range**2).mean() == pytest.approx(
            4 * LOG_2 * market.volatility[0, i] ** 2, rel=0.06
        )


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_seed_gives_the_same_bits(name):
    def digest(seed: int) -> str:
        market = simulate_market(name, n_assets=3, n_steps=300, seed=seed)
        parts = [market.panel.to_numpy(), market.oracle, market.leaders, market.returns]
        return hashlib.sha256(
            b"".join(np.ascontiguousarray(p).tobytes() for p in parts)
        ).hexdigest()

    assert digest(9) == digest(9)
    assert digest(9) != digest(10)


def test_scenarios_of_one_seed_share_their_shocks():
    null, static = (simulate_market(name, n_steps=500, seed=3) for name in ("null", "static"))
    np.testing.assert_allclose(
        static.returns[1:] - static.oracle[:-1], null.returns[1:], atol=1e-15
    )


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    simulate_market(n_assets=2, n_steps=50)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_options_are_obeyed():
    market = simulate_market(
        n_assets=8,
        n_steps=600,
        leaders_per_follower=3,
        max_lag=2,
        n_sectors=4,
        bar="15min",
        start="2020-06-01",
        bar_volatility=0.02,
        volatility="constant",
    )
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
    (
        "scenario must be one of static, null",
        [{"scenario": s} for s in ("stationary", ["static"])],
    ),
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
    ("gate_share", [{"gate_share": 0}, {"gate_share": 1.5}]),
]


@pytest.mark.parametrize(("words", "cases"), REFUSED)
def test_bad_options_are_refused(words, cases):
    for arguments in cases:
        with pytest.raises(InvalidInputError, match=words) as refused:
            simulate_market(**{"n_steps": 20, **arguments})
        assert "\n" not in str(refused.value)


def test_returns_that_feed_on_themselves_are_refused():
    edges = Edges(*(np.array(v) for v in ([0, 1], [1, 0], [1, 1], [1.5, 1.5], [0, 0])))
    shocks = np.random.default_rng(0).standard_normal((2, 400))
    with pytest.raises(InvalidInputError, match="too large"):
        Dynamics(edges, always).run(shocks, shocks)


def test_the_fixed_point_is_the_recursion():
    """Substitution settles on exactly what a loop over time computes, for each kind of firing."""
    rng = np.random.default_rng(1)
    shocks = rng.standard_normal((3, 200))
    gate = rng.random((3, 200)) < 0.5
    states = rng.integers(0, 2, 200)
    parts = ([0, 1, 2, 0], [1, 2, 0, 2], [1, 2, 3, 1], [0.4, -0.3, 0.5, 0.2], [0, 1, 0, 1])
    edges = Edges(*(np.array(v) for v in parts))
    limit = np.array([0.5, 1.0, 0.8])
    rules = {
        "always": (always, lambda e, s, t, r: True),
        "open": (when_open(gate), lambda e, s, t, r: gate[edges.leader[e], s]),
        "state": (in_state(states), lambda e, s, t, r: states[t] == edges.regime[e]),
        "large": (
            when_large(limit),
            lambda e, s, t, r: abs(r[edges.leader[e], s]) > limit[edges.leader[e]],
        ),
    }
    for name, (firing, fires) in rules.items():
        expected = np.zeros_like(shocks)
        for t in range(200):
            expected[:, t] = shocks[:, t]
            for e in range(4):
                leading = t - edges.lag[e]
                if leading >= 0 and fires(e, leading, t - 1, expected):
                    move = expected[edges.leader[e], leading]
                    expected[edges.follower[e], t] += edges.weight[e] * move
        returns, _ = Dynamics(edges, firing).run(shocks, shocks)
        np.testing.assert_allclose(returns, expected, atol=1e-12, err_msg=name)
