"""Simulated markets with known leaders, lags and best possible forecast.

The answer is part of the data, and so is the ceiling: the mean given perfect knowledge of the
market.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from crossattn._validation import check_choice
from crossattn.data.frame import TIME_UNIT, Frames
from crossattn.data.panel import Panel, align_panel
from crossattn.simulate._builder import MarketBuilder, MarketOptions, MarketPaths
from crossattn.simulate.scenarios import SCENARIOS


@dataclass(frozen=True, eq=False, repr=False)
class SimulatedMarket:
    """Bars of a simulated market and the truth behind them; T bars of N assets.

    Attributes
    ----------
    scenario : str
        Name of the scenario.
    frames : dict of str to DataFrame
        Bars by symbol.
    panel : DataFrame
        The same bars on one clock, indexed by close time (computed on first use).
    returns : ndarray of shape (T, N)
        Log return of each bar, close to close; known at the row's close time.
    oracle : ndarray of shape (T, N)
        Conditional mean, given everything known at the row's close time, of the *next* bar's log
        return: ``returns[1:] - oracle[:-1]`` is noise with conditional mean zero.
    edges : DataFrame
        One row an edge and regime: ``leader``, ``follower`` (symbols), ``lag`` (bars from the
        leader's bar to the follower's), ``strength`` (log return of the follower for a log return
        of the leader, where the edge fires; see Notes), ``regime`` (the state in which the edge
        holds). "hours" adds ``first_hour`` and ``last_hour``, "products" ``partner`` and
        ``partner_lag``.
    leaders : int ndarray of shape (T, N)
        Position of each asset's true leader for the next bar: of the edges that fire, the one with
        the largest absolute coefficient; -1 where none fires, or (in "sectors") all are equal.
    regimes : Series of int
        The state, by close time: of the volatility and correlation of the row's own bar, and of
        the edges of the next one. All 0 where there is only one.
    sectors, markets : dict of str to str
        Labels by symbol.
    volatility : ndarray of shape (T, N)
        Standard deviation of each bar's noise: latent, never part of the bars.
    coefficients : ndarray of shape (T, E), or None
        In "drift", the coefficient of each row of ``edges`` for the next bar, whose root mean
        square is the absolute ``strength`` on average over paths; None elsewhere.
    seed : int
    """

    scenario: str
    seed: int
    frames: Frames
    returns: np.ndarray
    oracle: np.ndarray
    edges: pd.DataFrame
    leaders: np.ndarray
    regimes: pd.Series
    sectors: dict[str, str]
    markets: dict[str, str]
    volatility: np.ndarray
    coefficients: np.ndarray | None = None

    @property
    def symbols(self) -> list[str]:
        """Symbols, in the order of every second axis."""
        return list(self.frames)

    @cached_property
    def panel(self) -> Panel:
        """The bars on one clock; see :func:`crossattn.align_panel`."""
        return align_panel(self.frames)

    @property
    def oracle_volatility(self) -> np.ndarray:
        """Standard deviation of the *next* bar's noise (T, N); NaN in the last row.

        Known exactly at the row's close in "spillover" and, but for the next bar's state in
        "regimes" and "crisis", with ``volatility="garch"`` or "constant"; elsewhere it holds news
        that no forecaster can know.
        """
        return np.concatenate([self.volatility[1:], np.full_like(self.volatility[:1], np.nan)])

    @property
    def predictability(self) -> float:
        """The oracle's R² on this path: its variance over that of the returns it forecasts."""
        return float(self.oracle[:-1].var(axis=0).sum() / self.returns[1:].var(axis=0).sum())

    def __repr__(self) -> str:
        steps, assets = self.returns.shape
        return (
            f"SimulatedMarket({self.scenario!r}, {assets} assets x {steps} bars, "
            f"{len(self.edges)} edges, oracle R² {self.predictability:.4f}, seed {self.seed})"
        )


def simulate_market(
    scenario: str = "static",
    *,
    n_assets: int = 10,
    n_steps: int = 20_000,
    predictability: float = 0.02,
    seed: int = 0,
    **options,
) -> SimulatedMarket:
    """Simulate the bars of a market whose leaders, lags and best forecast are known.

    Parameters
    ----------
    scenario : str
        ``"static"``: each asset follows two others, with fixed lags and signs.
        ``"null"``: no asset leads; correlation and volatility clustering are shared all the same.
        ``"factor"``: no asset leads; one strong factor, in return and in volatility.
        ``"asynchronous"``: no asset leads; half of the assets are quoted late.
        ``"switching"``: the asset with the highest relative volume leads the others' next bar.
        ``"gated"``: an edge fires if its leader's relative volume at the leading bar is in the
        top fifth of that asset's.
        ``"regimes"``: two graphs; a Markov chain that is visible in volatility switches them.
        ``"threshold"``: an edge fires if the leading bar's move is large.
        ``"hub"``: one asset leads all others, each of which follows a second one by half as much.
        ``"crisis"``: a static graph, and times in which volatility and correlation jump.
        ``"delays"``: as static, with lags of 9 to 24 bars.
        ``"falls"``: only the falls of a leader spread.
        ``"volume"``: a leader's relative volume moves its follower's return.
        ``"concave"``: the response grows like the root of the leading move.
        ``"levels"``: log prices pull together (error correction, cointegration).
        ``"sectors"``: the mean return of a sector leads each asset of the next sector.
        ``"mover"``: the asset that has moved furthest in the last bars leads all others.
        ``"hours"``: each asset leads in 8 of the 24 hours of the day.
        ``"drift"``: the coefficients drift slowly, through zero.
        ``"products"``: the product of two assets' returns moves a third.
        ``"spillover"``: one asset's variance spreads to all others with a delay.
    n_assets : int
        N, at least 2 and more than ``leaders_per_follower``.
    n_steps : int
        T, bars an asset.
    predictability : float
        R² of the oracle on this very path, above 0 and at most .4: the variance of the oracle over
        that of the returns. Each follower has the same R²; where not all assets follow, the
        followers' is that much higher that the market as a whole has this one. Without meaning in
        ``"null"``, ``"factor"`` and ``"spillover"``.
    seed : int
        The same seed gives the same bits; scenarios share shocks of one seed.
    **options
        ``correlation`` (mean pairwise, .25; .6 in "factor" and "asynchronous"; stochastic
        volatilities that differ leave about .8 of more), ``min_lag`` and
        ``max_lag`` (1 and 6; 9 and 24 in "delays"), ``leaders_per_follower`` (2), ``tail``
        (degrees of freedom of the shocks, 5), ``volatility`` ("stochastic", "garch", "constant"),
        ``bar_volatility`` (.006 a bar), ``n_sectors`` (a third of the assets; at least 2 in
        "sectors"), ``bar`` ("1h"; at most ``active_hours`` in "hours"), ``start`` ("2022-01-01"),
        ``change`` (of the graph between regimes: "graph" or "sign"), ``regime_durations`` (mean
        bars in either state, (400, 400); (1500, 300) in "crisis"), ``regime_volatility`` (ratio
        between the states, 1.8; 2.5 in "crisis"), ``crisis_correlation`` (.7), ``threshold``
        (1.5 times the asset's ordinary volatility), ``gate_share`` (.2), ``mover_window`` (12
        bars), ``active_hours`` (8 of "hours"), ``drift_half_life`` (1000 bars, of the
        autoregression that a coefficient of "drift" follows), ``spillover`` (.15, at most .2: of a
        hub's squared return, what is added to a follower's variance; 0: none spreads).

    Returns
    -------
    SimulatedMarket

    Raises
    ------
    InvalidInputError
        Unknown scenario or option, or a value out of range.

    Notes
    -----
    A return is ``oracle[t-1] + volatility[t] * shock[t]``. Shocks are Student-t: factors of the
    whole market, of the asset's market and of its sector, and a part of its own. Log-volatility is
    a slow common autoregression, a faster one of each asset, and a spill-over from two others'
    (or a GARCH). Volume follows volatility, the size of the shock, and news, which moves volatility
    too. Highs and lows are the extremes of Brownian bridges. Gates read
    :func:`crossattn.features.indicators.relative_volume`, the definition of the feature.

    In "asynchronous" no asset moves another, yet part of a late quote's next return has already
    happened: the oracle there is that part of the latent move, which the stale price shows in the
    next bar and which the early quotes of correlated assets predict. ``leaders`` is -1.

    With j the leader, k the lag, w the strength, r log returns and log prices counted from the
    first open, an edge adds to the oracle at t, for its follower i:

    - "falls": w (min(r[j, t-k+1], 0) - m), m the mean of min(noise, 0) of j over the path;
    - "volume": w times the relative volume of j at t-k+1, 0 in the first bar;
    - "concave": w sign(r) root(abs(r)) of r[j, t-k+1];
    - "levels": w (log price of j - log price of i) at t;
    - "hours": w r[j, t-k+1] if the hour of the row's close time is in the session of j;
    - "drift": ``coefficients[t]`` times r[j, t-k+1], a stationary first-order autoregression;
    - "products": w r[j, t-k+1] tanh(r[p, t-q+1] / v), p the partner, q its lag, v its ordinary
      volatility.

    In "spillover" the edges and ``leaders`` are those of variance, in units of each asset's
    ordinary one: ``h[t+1] = c + .08 s[t] + .7 h[t] + w s[hub, t-k+1]`` with s the squared return;
    ``volatility`` does not apply, and ``oracle_volatility`` is exact.

    In "mover" the leader is the asset with the largest absolute return of the last ``mover_window``
    bars, in units of its ordinary volatility; in "sectors" the edges into an asset have one
    lag and one strength.

    Below 100 bars the strengths are set by their expectation, not calibrated on the path.

    Built in chapter: The simulated market.

    References
    ----------
    Lo, A. W. and MacKinlay, A. C. (1990), An econometric analysis of nonsynchronous trading.

    Examples
    --------
    >>> market = simulate_market("static", n_assets=4, n_steps=2_000, seed=7)
    >>> market
    SimulatedMarket('static', 4 assets x 2000 bars, 8 edges, oracle R² 0.0200, seed 7)
    >>> surprise = market.returns[1:] - market.oracle[:-1]
    >>> bool(surprise.std() < market.returns.std())
    True
    """
    check_choice("scenario", scenario, SCENARIOS)
    checked = MarketOptions.of(scenario, n_assets, n_steps, predictability, seed, **options)
    builder = MarketBuilder(checked)
    return _publish(builder, SCENARIOS[scenario](builder))


def _publish(builder: MarketBuilder, paths: MarketPaths) -> SimulatedMarket:
    """Turn arrays (N, T) into (T, N), and asset positions into symbols."""
    options, edges = builder.options, paths.edges
    symbols = options.symbols
    names = np.array(symbols, object)
    table = pd.DataFrame(
        {
            "leader": names[edges.leader],
            "follower": names[edges.follower],
            "lag": edges.lag.astype(int),
            "strength": edges.weight,
            "regime": edges.regime.astype(int),
            **paths.edge_details,
        }
    )
    known = options.opens() + pd.Timedelta(options.bar)
    regimes = pd.Series(
        builder.regimes, index=known.as_unit(TIME_UNIT).rename("close_time"), name="regime"
    )
    groups = options.groups
    return SimulatedMarket(
        scenario=options.scenario,
        seed=options.seed,
        frames=paths.frames,
        returns=paths.returns.T.copy(),
        oracle=paths.oracle.T.copy(),
        edges=table,
        leaders=paths.leaders.T.copy(),
        regimes=regimes,
        sectors={name: f"S{k}" for name, k in zip(symbols, groups.sector, strict=True)},
        markets={name: f"M{k}" for name, k in zip(symbols, groups.market, strict=True)},
        volatility=builder.volatility.T.copy(),
        coefficients=None if paths.coefficients is None else paths.coefficients.T.copy(),
    )
