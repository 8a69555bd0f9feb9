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
from crossattn.simulate import SimulatedMarket, describe_scenarios, simulate_market
from crossattn.simulate._builder import MAX_PREDICTABILITY
from crossattn.simulate.dynamics import (
    Dynamics,
    Edges,
    always,
    correct_errors,
)
from crossattn.simulate.scenarios import SCENARIOS

NEW = [
    *("delays", "falls", "volume", "concave", "levels"),
    *("sectors", "mover", "hours", "drift", "products"),
]
LED = ["static", "switching", "gated", "regimes", "threshold", "hub", "crisis", *NEW]
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
        return np.argmax(
            [abs(r[max(0, t - 11) : t + 1, k].sum()) / unit[k] for k in position.values()]
        )

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
    monkeypatch.setattr(
        Dynamics, "calibrated", lambda *args: seen.append(calibrate(*args)) or seen[-1]
    )
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


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize(
    ("n_assets", "n_steps", "options"),
    [
        (3, 331, {"volatility": "garch", "bar": "90min", "leaders_per_follower": 1}),
        (13, 257, {"volatility": "constant", "max_lag": 11, "n_sectors": 5, "tail": 3}),
    ],
)
def test_new_scenarios_stand_odd_sizes_and_options(name, n_assets, n_steps, options):
    market = simulate_market(name, n_assets=n_assets, n_steps=n_steps, seed=1, **options)
    assert market.predictability == pytest.approx(0.02, rel=1e-3)
    assert market.edges["lag"].max() <= options.get("max_lag", 24)


def test_new_scenarios_are_what_their_docstrings_say(markets):
    """What shows in the bars or in the published truth of each, beyond the formula."""
    edges = {name: markets[name].edges for name in NEW}
    assert edges["delays"]["lag"].between(9, 24).all()
    assert edges["delays"]["lag"].nunique() > 5
    falls = markets["falls"]
    assert 0.1 < (falls.leaders == -1).mean() < 0.4, "no leader fell"
    place = {symbol: i for i, symbol in enumerate(falls.symbols)}
    for e in falls.edges.itertuples():
        leads = falls.leaders[e.lag - 1 :, place[e.follower]] == place[e.leader]
        assert (falls.returns[: 6_001 - e.lag, place[e.leader]][leads] < 0).all()
    assert np.abs(falls.oracle.mean(axis=0)).max() < 0.05 * falls.oracle.std(), "no drift"
    followers = set(edges["levels"]["follower"])
    assert not followers & set(edges["levels"]["leader"])
    assert len(followers) == 6
    price = np.log(markets["levels"].panel["close"])
    gap = [price[e.leader] - price[e.follower] for e in edges["levels"].itertuples()]
    assert np.std(gap, axis=1).max() < price.std().median(), "prices stay together"
    sectors = markets["sectors"].sectors
    pairs = {(sectors[e.leader], sectors[e.follower]) for e in edges["sectors"].itertuples()}
    assert pairs == {("S0", "S1"), ("S1", "S0")}
    assert (markets["sectors"].leaders == -1).all()
    assert ((edges["hours"]["last_hour"] - edges["hours"]["first_hour"]) % 24 == 7).all()
    drift = markets["drift"].coefficients
    assert drift.shape == (6_000, len(edges["drift"]))
    assert (drift.min(axis=0) < 0).mean() > 0.8, "a coefficient changes its sign"
    assert (drift.max(axis=0) > 0).mean() > 0.8, "a coefficient changes its sign"
    three = edges["products"][["leader", "follower", "partner"]]
    assert (three.nunique(axis=1) == 3).all()


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


def test_every_scenario_is_described():
    described = describe_scenarios()
    assert list(described) == list(SCENARIOS)
    for name, sentence in described.items():
        assert sentence.endswith("."), name
        assert f'``"{name}"``' in simulate_market.__doc__


@pytest.mark.parametrize("name", [*LED, "asynchronous"])
@pytest.mark.parametrize("wanted", [0.002, 0.02, 0.2])
def test_predictability_is_hit(name, wanted):
    market = simulate_market(name, n_steps=4_000, predictability=wanted, seed=4)
    each = market.oracle[:-1].var(axis=0) / market.returns[1:].var(axis=0)
    assert market.predictability == pytest.approx(wanted, rel=1e-3)
    if name not in ("hub", "asynchronous", "levels"):
        np.testing.assert_allclose(each, wanted, rtol=1e-3)


def test_the_largest_predictability_is_reached_or_refused():
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
