"""Lead-lag test: a model's contributions against returns that it has not seen, and its report.

Attention always points somewhere, so a map is no evidence. The claim tested here can fail: what
source j adds to asset i's forecast must show up in asset i's next return.

Built in chapter: Who really leads?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from crossattn._validation import check_float
from crossattn.errors import InvalidInputError
from crossattn.evidence.contributions import Contributions, measure_contributions
from crossattn.evidence.inference import (
    Overlap,
    benjamini_hochberg,
    clark_west,
    newey_west_lags,
    robust_regression,
)
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.lagged import RETURN_FEATURE, lagged_log_returns, recent_volatility

if TYPE_CHECKING:
    import networkx
    from matplotlib.axes import Axes

VOLATILITY_HALF_LIFE = 12.0  # bars
CLIP = 6.0  # a return beyond this many volatilities counts as this many
IDLE = 1e-6  # a contribution that varies less than this share of the target is not tested
METHOD = "contributions on held-out bars, jointly per follower, robust errors"
EDGE_COLUMNS = ["leader", "follower", "lag", "effect", "p_value", "q_value", "significant"]


class PairReport:
    """Verdict and HTML of a report whose ``edges`` are tested pairs, significant or not."""

    edges: pd.DataFrame
    alpha: float
    criterion: ClassVar[str] = "q"

    @property
    def nobody_leads(self) -> bool:
        """Whether no pair is significant: an answer, not a failure."""
        return not self.edges["significant"].any()

    @property
    def _significant(self) -> pd.DataFrame:
        return self.edges[self.edges["significant"]]

    def _verdict(self) -> str:
        count = len(self._significant)
        pairs = f"{count} of {len(self.edges)} pairs" if count else "Nobody leads: no pair"
        return f"{pairs} significant at {self.criterion} ≤ {self.alpha:g}"

    def _repr_html_(self) -> str:
        shown = self.edges.head(3) if self.nobody_leads else self._significant
        table = shown.to_html(index=False, float_format="{:.4g}".format)
        return f"<p><strong>{escape(str(self))}</strong></p>{table}"


@dataclass(frozen=True)
class LeadLagReport(PairReport):
    """Lead-lag report: every ordered pair with lag, effect, p-value and q-value.

    Attributes
    ----------
    edges : DataFrame
        One row per ordered pair, most significant first: ``leader``, ``follower``, ``lag`` (bars
        from the leader's bar to the first bar of the horizon, 1 the newest known), ``effect``
        (change of the follower's return, in its own standard deviations, for one of the leader's),
        ``p_value`` (valid after the choice of lag; 1 where untestable), ``q_value`` (over all
        pairs), ``significant`` (``q_value <= alpha``).
    details : DataFrame
        The same rows with the further columns of the method.
    symbols : tuple of str
    alpha : float
        False discovery rate: accepted share of false claims among the claims made.
    method : str
        The test, in a few words.
    n_windows : int
        Number of windows of the test.
    """

    edges: pd.DataFrame
    details: pd.DataFrame
    symbols: tuple[str, ...]
    alpha: float
    method: str
    n_windows: int

    @property
    def leadership(self) -> pd.DataFrame:
        """By symbol: number of pairs led and followed, and the sum of its effects as a leader.

        Columns ``leads``, ``follows`` (significant pairs only), ``strength`` (sum of absolute
        effects over those it leads), ``net`` (strength minus that of those who lead it).
        """
        found = self._significant
        size = found["effect"].abs()
        led, followed = size.groupby(found["leader"]), size.groupby(found["follower"])
        columns = {
            "leads": led.size(),
            "follows": followed.size(),
            "strength": led.sum(),
            "net": led.sum().sub(followed.sum(), fill_value=0.0),
        }
        table = pd.DataFrame(columns, index=pd.Index(self.symbols, name="symbol"))
        return table.fillna(0.0).astype({"leads": int, "follows": int})

    def matrix(self) -> pd.DataFrame:
        """Return the effects as a table, followers in rows, NaN on the diagonal."""
        table = self.edges.pivot_table("effect", "follower", "leader")
        return table.reindex(index=list(self.symbols), columns=list(self.symbols))

    def graph(self) -> networkx.DiGraph:
        """Return the significant pairs as a directed graph, leader to follower."""
        import networkx

        graph = networkx.DiGraph()
        graph.add_nodes_from(self.symbols)
        facts = self._significant.set_index(["leader", "follower"])[["lag", "effect", "q_value"]]
        graph.add_edges_from((*pair, fact) for pair, fact in facts.to_dict("index").items())
        return graph

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the effects, with a ring around each significant pair; a row is a follower."""
        from crossattn.figures import signed_heatmap

        effects, label = self.matrix().fillna(0.0), "effect (standard deviations)"
        ax = signed_heatmap(effects, self.symbols, label=label, title=self._verdict(), ax=ax)
        position = {symbol: k + 0.5 for k, symbol in enumerate(self.symbols)}
        x, y = (self._significant[side].map(position) for side in ("leader", "follower"))
        ax.scatter(x, y, s=900, facecolors="none", edgecolors="black", linewidths=1.4)
        return ax

    def __str__(self) -> str:
        return f"{self._verdict()} ({self.method}; {self.n_windows} windows)"


def make_report(
    symbols: tuple[str, ...],
    *,
    lag: np.ndarray,
    effect: np.ndarray,
    p_value: np.ndarray,
    alpha: float,
    method: str,
    n_windows: int,
    **details: np.ndarray,
) -> LeadLagReport:
    """Make a report of matrices (follower, leader), with q-values over all ordered pairs."""
    follower, leader = np.nonzero(~np.eye(len(symbols), dtype=bool))
    names = np.asarray(symbols, dtype=object)
    p = np.where(np.isfinite(p_value), p_value, 1.0)[follower, leader]
    q = benjamini_hochberg(p)
    table = pd.DataFrame(
        {
            "leader": names[leader],
            "follower": names[follower],
            "lag": lag[follower, leader].astype(int),
            "effect": np.nan_to_num(effect[follower, leader]),
            "p_value": p,
            "q_value": q,
            "significant": q <= alpha,
            **{name: values[follower, leader] for name, values in details.items()},
        }
    )
    table = table.sort_values("p_value", kind="stable", ignore_index=True)
    edges = table[EDGE_COLUMNS].copy()
    return LeadLagReport(edges, table, tuple(symbols), alpha, method, n_windows)


def analyze_lead_lag_relationships(
    model,
    data: CrossAttentionData,
    symbols: Sequence[str] | None = None,
    *,
    alpha: float = 0.05,
) -> LeadLagReport:
    """Test who leads whom: does source j's contribution predict asset i out of sample?

    Parameters
    ----------
    model : object
        A fitted forecaster, ``CrossAttentionMultiAsset`` or baseline; see
        :func:`crossattn.evidence.contributions.measure_contributions`.
    data : CrossAttentionData
        Windows that the model was **not** fitted or selected on: the test part. On training
        windows every p-value is too small.
    symbols : sequence of str, optional
        Assets of the report; all by default. The others stay in the model and serve as controls;
        q-values count the reported pairs only.
    alpha : float
        False discovery rate: accepted share of false claims among the claims made.

    Returns
    -------
    LeadLagReport
        ``.details`` adds ``slope`` (of the return on the contribution: 1 for a calibrated model,
        0 for an idle source) with its ``slope_error``, ``t``, ``share`` (of the follower's absolute
        contributions), ``effect_low`` and ``effect_high`` (95 %), and ``clark_west``, the p-value
        of a forecast with the source against one without, the other sources at their best
        weights on these bars.

    Raises
    ------
    InvalidInputError
        Unknown symbols, alpha outside of (0, 1), or too few windows with known targets.

    Notes
    -----
    For each follower i the return is regressed on the contributions of *all* sources at once,

    .. math:: y_i = a_i + \\sum_j b_{ij} c_{ij} + e_i,

    both sides divided by the follower's volatility known at the window's end and the target
    clipped at ±6 of them, and each b is tested against 0, one-sided, with robust errors:
    Newey-West with leverage-corrected residuals, or Hodrick's where targets overlap, and a t
    distribution with as many degrees of freedom as bars carry the error. One source at a time, an
    idle one would be a proxy of the true leader left out. The follower's own past is a control
    too, as the model reports it or as its own last returns: else a price that bounces looks led by
    all assets that move with it.

    The lag was chosen when the model was fitted, on other bars, so p needs no correction for it. A
    source whose contribution never varies is untestable: p = 1.

    Limits: a common driver outside of the data makes its slower followers look led by its faster
    ones; a proxy that moves with the true leader can take its place; stale quotes make the asset
    that trades more often "lead" (:func:`crossattn.evidence.classical.hayashi_yoshida` uses quotes
    at their own times).

    References
    ----------
    Newey and West (1987), Econometrica 55. Hodrick (1992), Review of Financial Studies 5(3).
    Clark and West (2007), Journal of Econometrics 138. Benjamini and Hochberg (1995), JRSS B 57(1).

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> from crossattn.baselines.linear import VAR
    >>> market = simulate_market("null", n_assets=4, n_steps=2000, seed=0)
    >>> data = prepare_cross_attention_data(
    ...     market.frames, lookback=8, horizon=1, features=["log_return"]
    ... )
    >>> train, val, test = data.split()
    >>> analyze_lead_lag_relationships(VAR().fit(train), test).nobody_leads
    True
    """
    if not isinstance(data, CrossAttentionData):
        raise InvalidInputError(f"data must be CrossAttentionData, got {type(data).__name__}")
    check_float("alpha", alpha, above=0, below=1)
    measured = measure_contributions(model, data)
    known = measured.symbols
    chosen = tuple(dict.fromkeys(known if symbols is None else symbols))
    if not set(chosen) <= set(known) or len(chosen) < min(2, len(known)):
        raise InvalidInputError(f"symbols must be two or more of {list(known)}, got {symbols}")
    data = data.select(symbols=known)
    return contribution_test(measured, data, alpha=alpha, symbols=chosen)


def contribution_test(
    measured: Contributions,
    data: CrossAttentionData,
    *,
    alpha: float = 0.05,
    symbols: Sequence[str] | None = None,
) -> LeadLagReport:
    """Test measured contributions, as :func:`crossattn.analyze_lead_lag_relationships` does."""
    n_assets = len(measured.symbols)
    untested = {"p_value": 1.0, "clark_west": 1.0, "slope": 0.0, "slope_error": np.nan, "t": 0.0}
    matrices = {name: np.full((n_assets, n_assets), value) for name, value in untested.items()}
    for follower in range(n_assets):
        _test_follower(follower, measured, data, matrices)
    # The lag with the largest contribution. It was chosen when the model was fitted, on other
    # bars, so no correction for the choice is due.
    lag_index = measured.by_lag.argmax(axis=2)
    at_lag = np.take_along_axis(measured.slope, lag_index[..., None], axis=2)[..., 0]
    spread = pd.DataFrame(data.bar_returns).std(ddof=0).fillna(0.0).to_numpy()
    ratio = spread[None, :] / np.where(spread > 0, spread, 1.0)[:, None]  # (follower, leader)
    ratio = ratio / np.sqrt(data.horizon)
    # What the model claims (slope at the lag) times how much of it comes true (tested slope).
    effect = at_lag * ratio * np.where(matrices["p_value"] < 1, matrices["slope"], 0.0)
    half = 1.96 * np.abs(at_lag * ratio) * matrices["slope_error"]
    size = np.abs(measured.total).mean(axis=0)
    np.fill_diagonal(size, 0.0)
    share = size / np.where(size.sum(axis=1) > 0, size.sum(axis=1), 1.0)[:, None]
    # All assets were in the regressions; q-values are over the pairs of the report alone.
    report_on = tuple(symbols or measured.symbols)
    places = np.ix_(*[[measured.symbols.index(s) for s in report_on]] * 2)
    columns = {
        "lag": lag_index + 1,
        "effect": effect,
        "effect_low": effect - half,
        "effect_high": effect + half,
        "share": share,
        **matrices,
    }
    return make_report(
        report_on,
        alpha=alpha,
        method=METHOD,
        n_windows=len(data),
        **{name: values[places] for name, values in columns.items()},
    )


def _test_follower(
    follower: int,
    measured: Contributions,
    data: CrossAttentionData,
    matrices: dict[str, np.ndarray],
) -> None:
    """Regress one follower's returns on all contributions; fill its row of every matrix."""
    target = np.asarray(data.y[:, follower], float)
    parts = measured.total[:, follower]  # (n, N)
    known = np.isfinite(target) & np.isfinite(parts).all(axis=1)
    if not known.any():
        return
    active = np.flatnonzero(parts[known].std(axis=0) > IDLE * max(target[known].std(), 1e-300))
    controls = np.empty((len(parts), 0))
    if follower not in active and RETURN_FEATURE in data.features:
        # The model does not use the follower's own past. Without it as a control, a price that
        # bounces would look led by every asset that moves with it.
        n_lags = min(measured.by_lag.shape[2], data.lookback)
        controls = lagged_log_returns(data, n_lags, np.array([follower]))[:, 0]  # (n, L)
    if known.sum() < 10 * (len(active) + controls.shape[1] + 2) or not len(active):
        return  # too few windows per coefficient: stays untested, p = 1
    bars = data.next_returns[data.ends[0] : data.ends[-1] + data.horizon, follower]
    scale = recent_volatility(data, np.array([follower]), VOLATILITY_HALF_LIFE)[:, 0]
    # Clip single bars as the targets are clipped: Hodrick's errors are made of bars.
    reach = CLIP * np.pad(scale, (0, data.horizon - 1), mode="edge")[: len(bars)]
    bars = np.clip(bars, -reach, reach)
    scale = scale * np.sqrt(data.horizon)
    target = np.clip(target, -CLIP * scale, CLIP * scale)
    target, scale = target[known], scale[known]
    regressors = np.hstack([parts[:, active], controls])[known]
    overlap = None
    if data.horizon > 1 and np.isfinite(bars).mean() > 0.5:  # else too few bars of the targets
        overlap = Overlap(bars, np.flatnonzero(known), data.horizon)
    lags = newey_west_lags(len(target), data.horizon)
    options = {"scale": scale, "lags": lags, "leverage": True, "overlap": overlap}
    fit = robust_regression(target, regressors, **options)
    found = {
        "slope": fit.slope,
        "slope_error": fit.error,
        "t": fit.t,
        "p_value": fit.p_positive,
        "clark_west": _clark_west_of_each(target / scale, regressors, scale, lags, len(active)),
    }
    others = np.flatnonzero(active != follower)
    for name, values in found.items():
        matrices[name][follower, active[others]] = values[others]


def _clark_west_of_each(
    target: np.ndarray, parts: np.ndarray, scale: np.ndarray, lags: int, n_sources: int
) -> np.ndarray:
    """Clark-West p-value of each source beside the others, against the others at their best fit."""
    # at the model's own weights, an idle source would be credited with correcting their errors
    size = parts.std(axis=0)
    parts = parts / np.where(size > 0, size, 1.0)
    design = np.column_stack([parts, np.ones(len(parts))]) / scale[:, None]
    p_values = np.empty(n_sources)
    for source in range(n_sources):
        # regress target and source on the rest; the larger forecast adds what is left of the source
        rest, own = np.delete(design, source, axis=1), design[:, source]
        bread = np.linalg.pinv(rest.T @ rest, hermitian=True)
        smaller, shared = (rest @ (bread @ (rest.T @ values)) for values in (target, own))
        p_values[source] = clark_west(target, smaller, smaller + own - shared, lags)
    return p_values
