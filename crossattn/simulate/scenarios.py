"""Scenarios of the simulator: one function each, from a builder to a market.

To add a scenario, write a function ``MarketBuilder -> MarketPaths`` here whose docstring begins
with what is planted, enter it in :data:`SCENARIOS`, name it in :func:`crossattn.simulate_market`,
and give options of its own a default in ``MarketOptions``. A new random stream goes to the end of
``_builder._STREAMS``.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.simulate import dynamics
from crossattn.simulate._builder import MarketBuilder, MarketPaths
from crossattn.simulate._quotes import calibrated_quotes
from crossattn.simulate._shocks import draw_autoregression, draw_shocks


def _static(market: MarketBuilder) -> MarketPaths:
    """Each asset follows two others, with fixed lags and signs.

    Linear in lagged returns: the exact shape of a linear model, and of a forecaster that has every
    (leader, lag) as a token.
    """
    return market.build(market.draw_graph(), dynamics.always)


def _null(market: MarketBuilder) -> MarketPaths:
    """No asset leads; correlation and clustered volatility are shared all the same."""
    return market.build_null()


def _factor(market: MarketBuilder) -> MarketPaths:
    """No asset leads; one strong factor, in return and in volatility."""
    market.shared_volatility = 1.5
    return market.build_null()


def _asynchronous(market: MarketBuilder) -> MarketPaths:
    """No asset leads; half of the assets are quoted late, part of each move a bar later."""
    options = market.options
    late = draw_shocks(market.rng("late"), market.loadings, options.tail, options.n_steps)
    is_stale = np.arange(options.n_assets) % 2 == 1
    moves = market.volatility * market.shocks, market.volatility * late
    return market.assemble(*calibrated_quotes(*moves, is_stale, options.predictability))


def _switching(market: MarketBuilder) -> MarketPaths:
    """The asset with the highest relative volume leads all others' next bar.

    A fixed matrix cannot describe it; attention whose scores read relative volume can, exactly.
    """
    volume = market.relative_volume
    known = ~np.isnan(volume).any(axis=0)
    leader = np.where(known, np.nan_to_num(volume).argmax(axis=0), -1)
    return market.build(dynamics.all_pairs(market.options.n_assets), dynamics.when_chosen(leader))


def _gated(market: MarketBuilder) -> MarketPaths:
    """An edge fires only if its leader's relative volume is in the asset's top fifth."""
    volume = market.relative_volume
    threshold = np.nanquantile(volume, 1 - market.options.gate_share, axis=1, keepdims=True)
    return market.build(market.draw_graph(), dynamics.when_open(volume >= threshold))


def _regimes(market: MarketBuilder) -> MarketPaths:
    """Two graphs; a Markov chain that is visible in volatility switches between them."""
    options = market.options
    market.draw_states()
    rng = market.rng("graph")
    first, second = (
        dynamics.draw_sparse(rng, options.n_assets, options.leaders_per_follower, market.lags)
        for _ in range(2)
    )
    if options.change == "sign":
        second = replace(first, weight=-first.weight)
    return market.build(first + second.in_regime(1), dynamics.in_state(market.regimes))


def _threshold(market: MarketBuilder) -> MarketPaths:
    """An edge fires only if the leading move is large."""
    limit = market.options.threshold * market.levels[:, 0]
    return market.build(market.draw_graph(), dynamics.when_large(limit))


def _hub(market: MarketBuilder) -> MarketPaths:
    """One asset leads all others, each of which follows a second one by half as much."""
    edges = dynamics.draw_hub(market.rng("graph"), market.options.n_assets, market.lags)
    return market.build(edges, dynamics.always)


def _crisis(market: MarketBuilder) -> MarketPaths:
    """A static graph, and times in which volatility and correlation jump."""
    market.draw_states()
    edges = market.draw_graph()
    return market.build(edges + edges.in_regime(1), dynamics.in_state(market.regimes))


def _delays(market: MarketBuilder) -> MarketPaths:
    """Leads that arrive late, after 9 to 24 bars.

    Linear in lagged returns, like "static": the exact shape of a model that looks back far enough.
    """
    return _static(market)


def _falls(market: MarketBuilder) -> MarketPaths:
    """Only falls of the leader spread; its rises move no follower.

    The mean fall is taken out, so that no price drifts away. The exact shape of a linear model that
    is given the part of each return below zero.
    """
    mean_fall = np.minimum(market.noise, 0).mean(axis=1, keepdims=True)
    paths = market.build(
        market.draw_graph(), dynamics.always, lambda returns: np.minimum(returns, 0) - mean_fall
    )
    fallen = dynamics.when_open(paths.returns < 0)
    leaders = dynamics.Dynamics(paths.edges, fallen).leaders(paths.returns)
    return replace(paths, leaders=leaders)


def _volume(market: MarketBuilder) -> MarketPaths:
    """A leader's relative volume, not its return, moves the follower's return.

    The exact shape of a linear model that is given each asset's relative volume.
    """
    volume = np.nan_to_num(market.relative_volume)
    return market.build(market.draw_graph(), dynamics.always, lambda returns: volume)


def _concave(market: MarketBuilder) -> MarketPaths:
    """The response grows like the root of the leading move: small moves count for more."""
    return market.build(
        market.draw_graph(),
        dynamics.always,
        lambda returns: np.sign(returns) * np.sqrt(np.abs(returns)),
    )


def _levels(market: MarketBuilder) -> MarketPaths:
    """Log prices pull together: a follower closes part of its gap to a leader in every bar.

    Error correction, as between cointegrated prices. A quarter of the assets are leaders, and
    follow none.
    """
    options = market.options
    edges = dynamics.draw_anchors(market.rng("graph"), options.n_assets)
    returns, oracle, edges = dynamics.correct_errors(edges, market.noise, options.predictability)
    leaders = dynamics.Dynamics(edges, dynamics.always).leaders(returns)
    return market.assemble(returns, oracle, leaders, edges)


def _sectors(market: MarketBuilder) -> MarketPaths:
    """The mean return of a sector leads each asset of the next sector.

    Linear in lagged returns, like "static", with many weak leaders that are all alike.
    """
    edges = dynamics.sector_ring(market.rng("graph"), market.options.groups.sector, market.lags)
    paths = market.build(edges, dynamics.always)
    return replace(paths, leaders=np.full(market.shape, -1))


def _mover(market: MarketBuilder) -> MarketPaths:
    """The asset whose price moved furthest in the last 12 bars leads all others' next bar."""
    firing = dynamics.when_moved_most(market.levels[:, 0], market.options.mover_window)
    return market.build(dynamics.all_pairs(market.options.n_assets), firing)


def _hours(market: MarketBuilder) -> MarketPaths:
    """Each asset leads only in its own session: 8 hours in a row of the 24 hours of the day."""
    options = market.options
    hours = options.active_hours
    if pd.Timedelta(options.bar) > pd.Timedelta(hours=hours):
        raise InvalidInputError(f"bar must be at most {hours}h in 'hours', got {options.bar!r}")
    edges = market.draw_graph()
    starts = market.rng("activity").integers(24, size=options.n_assets)[edges.leader]
    hour = (options.opens() + pd.Timedelta(options.bar)).hour.to_numpy()
    is_active = (hour - starts[:, None]) % 24 < hours  # (E, T)
    paths = market.build(edges, dynamics.times(is_active))
    details = {"first_hour": starts, "last_hour": (starts + hours - 1) % 24}
    return replace(paths, edge_details=details)


def _drift(market: MarketBuilder) -> MarketPaths:
    """The coefficient of each edge drifts slowly through zero and changes its sign."""
    edges = market.draw_graph()
    shape = len(edges), market.options.n_steps
    path = draw_autoregression(market.rng("activity"), shape, 1.0, market.options.drift_half_life)
    paths = market.build(edges, dynamics.times(path))
    return replace(paths, coefficients=paths.edges.weight[:, None] * path)


def _products(market: MarketBuilder) -> MarketPaths:
    """A leader's move spreads with the sign and size of what a partner did one bar before it.

    The product of two assets' returns moves a third; neither return alone predicts anything.
    """
    edges = market.draw_graph()
    rng = market.rng("activity")
    partner = dynamics.draw_partners(rng, edges, market.options.n_assets)
    lag = edges.lag + 1
    paths = market.build(edges, dynamics.times_partner(partner, lag, market.levels[:, 0]))
    details = {"partner": np.array(market.options.symbols, object)[partner], "partner_lag": lag}
    return replace(paths, edge_details=details)


def _spillover(market: MarketBuilder) -> MarketPaths:
    """One asset's variance spreads to all others with a delay; no return can be forecast.

    Variances are GARCH(1, 1) with the hub's squared returns on top, so that the next bar's
    volatility is known exactly from the returns so far.
    """
    options, rng = market.options, market.rng("graph")
    n_assets = options.n_assets
    hub = int(rng.integers(n_assets))
    follower = np.delete(np.arange(n_assets), hub)
    lag = rng.choice(market.lags, n_assets - 1)
    edges = dynamics.edges_of(hub, follower, lag, options.spillover)
    market.variance_edges = edges
    leaders = np.full(market.shape, -1)
    if options.spillover:
        leaders[follower] = hub
    else:
        edges = dynamics.no_edges()
    return market.assemble(market.noise, np.zeros(market.shape), leaders, edges)


def describe_scenarios() -> dict[str, str]:
    """Describe the scenarios of the simulator: what each plants, in a sentence, by name.

    Returns
    -------
    dict of str to str
        First sentence of each scenario's docstring, in the order of ``SCENARIOS``.

    Examples
    --------
    >>> from crossattn.simulate import describe_scenarios
    >>> describe_scenarios()["hub"]
    'One asset leads all others, each of which follows a second one by half as much.'
    """
    return {name: inspect.getdoc(draw).split("\n")[0] for name, draw in SCENARIOS.items()}


#: Every scenario by name: builds the paths of a market from a builder with its options.
SCENARIOS: dict[str, Callable[[MarketBuilder], MarketPaths]] = {
    draw.__name__.removeprefix("_"): draw
    for draw in (
        *(_static, _null, _factor, _asynchronous, _switching, _gated, _regimes, _threshold),
        *(_hub, _crisis, _delays, _falls, _volume, _concave, _levels, _sectors, _mover),
        *(_hours, _drift, _products, _spillover),
    )
}
