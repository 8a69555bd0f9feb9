"""Scenarios: published edges and leaders are those that show in the bars."""

import numpy as np
import pandas as pd
import pytest

from crossattn.features import relative_volume
from crossattn.simulate import describe_scenarios, simulate_market
from crossattn.simulate._builder import MAX_PREDICTABILITY
from crossattn.simulate.scenarios import SCENARIOS

LED = [name for name in SCENARIOS if name not in ("null", "factor", "asynchronous", "spillover")]
NEW = LED[LED.index("delays") :]


ODD = [
    (3, 331, {"volatility": "garch", "bar": "90min", "leaders_per_follower": 1}),
    (13, 257, {"volatility": "constant", "max_lag": 11, "n_sectors": 5, "tail": 3}),
]


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize(("n_assets", "n_steps", "options"), ODD)
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
    changes = (drift.min(axis=0) < 0).mean(), (drift.max(axis=0) > 0).mean()
    assert min(changes) > 0.8, "a coefficient changes its sign"
    three = edges["products"][["leader", "follower", "partner"]]
    assert (three.nunique(axis=1) == 3).all()


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
def test_null_markets_have_no_leaders(name):
    market = simulate_market(name, n_assets=4, n_steps=3_000)
    assert market.edges.empty and market.predictability == 0
    assert not market.oracle.any() and (market.leaders == -1).all()


def test_late_quotes_look_led_by_early_ones_and_not_the_other_way_round():
    market = simulate_market("asynchronous", predictability=0.2, n_steps=8_000, seed=1)
    returns = market.returns / market.volatility
    late = np.arange(10) % 2 == 1
    lagged = (returns[:-1].T @ returns[1:]) / len(returns)  # (leader, follower)
    assert lagged[np.ix_(~late, late)].min() > 0.08
    assert np.abs(lagged[np.ix_(late, ~late)]).max() < 0.05
    assert market.edges.empty and (market.leaders == -1).all()
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
    assert [len(graph) for graph in graphs] == [14, 14] and graphs[0] != graphs[1]


def test_regimes_may_flip_signs_and_hide_from_volatility():
    market = simulate_market("regimes", change="sign", regime_volatility=1.0, n_steps=3_000)
    calm, wild = (part.reset_index() for _, part in market.edges.groupby("regime"))
    assert (calm["leader"] == wild["leader"]).all()
    np.testing.assert_allclose(calm["strength"], -wild["strength"])
    state = market.regimes.to_numpy().astype(bool)
    usual = market.volatility[~state].mean()
    assert market.volatility[state].mean() == pytest.approx(usual, rel=0.3)


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
