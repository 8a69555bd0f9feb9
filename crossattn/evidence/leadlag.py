"""Who leads whom: a model's contributions, put to the test on bars it has not seen.

Attention always points somewhere, so a map is no evidence. The claim tested here is falsifiable:
what the model says source j adds to asset i's next return must show up in that return.

Built in chapter: Who really leads?
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossattn.baselines.base import lagged_log_returns, recent_volatility
from crossattn.errors import InvalidInputError
from crossattn.evidence.contributions import (
    RETURN_FEATURE,
    Contributions,
    measure_contributions,
)
from crossattn.evidence.inference import (
    Overlap,
    clark_west,
    newey_west_lags,
    robust_regression,
)
from crossattn.evidence.report import LeadLagReport, make_report
from crossattn.windows.dataset import CrossAttentionData

__all__ = ["LeadLagReport", "analyze_lead_lag_relationships", "contribution_test"]

VOLATILITY_HALF_LIFE = 12.0
CLIP = 6.0
SILENT = 1e-6
CONTRIBUTION_TEST = "contributions on held-out bars, jointly per follower, robust errors"


def analyze_lead_lag_relationships(
    model,
    data: CrossAttentionData,
    symbols: Sequence[str] | None = None,
    *,
    alpha: float = 0.05,
    volatility_weights: bool = True,
    max_lag: int = 7,
) -> LeadLagReport:
    """Test every ordered pair: does what the model hears from j come true in i?

    Parameters
    ----------
    model : object
        A fitted forecaster, ``CrossAttentionMultiAsset`` or baseline; see
        :func:`crossattn.evidence.contributions.measure_contributions` for what is asked of it.
    data : CrossAttentionData
        Windows that the model was **not** fitted on and that chose nothing: the test part. On
        training windows every p-value is too small.
    symbols : sequence of str, optional
        Assets that the report is about, by name; all by default. All stay in the model and serve
        as controls; q-values count the pairs reported.
    alpha : float
        Accepted share of false claims among the claims made.
    volatility_weights : bool
        Divide both sides by the follower's volatility known at the window's end, and clip the
        target at ±6 of them. Wild bars then do not decide alone.
    max_lag : int
        For models that must be ablated: how far back lags are looked for.

    Returns
    -------
    LeadLagReport
        ``.details`` adds ``slope`` (of the return on the contribution: 1 for a calibrated model,
        0 for an idle one) with its ``slope_error``, ``t``, ``share`` (of the follower's absolute
        contributions), ``effect_low`` and ``effect_high`` (95 %), and ``clark_west``, the p-value
        of a forecast with the source against one without, the other sources at the weights that
        fit these bars best.

    Raises
    ------
    InvalidInputError
        Unknown symbols, alpha outside of (0, 1), or too few windows with known targets.

    Notes
    -----
    For each follower i the return is regressed on the contributions of *all* sources at once,

    .. math:: y_i = a_i + \\sum_j b_{ij} c_{ij} + e_i,

    and each b is tested against 0, one-sided, with errors that allow for wild bars: Newey-West with
    leverage-corrected residuals, or Hodrick's where the horizon is longer than a bar and targets
    overlap, and a t distribution with as many degrees of freedom as bars carry the error. Testing
    one source at a time is the mistake that doubles the false discoveries: assets share a factor,
    so the contribution of an idle source is correlated with that of the true leader left out. Own
    past is a control too, as the model reports it, or, where the model cannot hear it, as the
    follower's own last returns: else a price that bounces looks led by all that move with it.

    The lag was chosen when the model was fitted, on other bars, so the p-value needs no further
    correction for it. A source whose contribution never varies is untestable: p = 1.

    What it cannot tell: a common driver outside of the data makes its slower followers look led
    by its faster ones; a proxy that moves with the true leader can take its place; stale quotes
    make whoever trades more often "lead" (:func:`crossattn.evidence.classical.hayashi_yoshida`
    reads quotes at their own times).

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
    if not 0 < alpha < 1:
        raise InvalidInputError(f"alpha must be between 0 and 1, got {alpha!r}")
    measured = measure_contributions(model, data, max_lag=max_lag)
    return contribution_test(
        measured,
        data.select(symbols=measured.symbols),
        alpha=alpha,
        volatility_weights=volatility_weights,
        symbols=_chosen(symbols, measured.symbols),
    )


def contribution_test(
    measured: Contributions,
    data: CrossAttentionData,
    *,
    alpha: float = 0.05,
    volatility_weights: bool = True,
    symbols: Sequence[str] | None = None,
) -> LeadLagReport:
    """Test contributions that were measured on ``data``; see the function above for the method."""
    n_assets = len(measured.symbols)
    matrices = {
        name: np.full((n_assets, n_assets), fill)
        for name, fill in {
            "p_value": 1.0,
            "clark_west": 1.0,
            "slope": 0.0,
            "slope_error": np.nan,
            "t": 0.0,
        }.items()
    }
    for follower in range(n_assets):
        _test_follower(follower, measured, data, volatility_weights, matrices)
    lag_index = measured.by_lag.argmax(axis=2)
    at_lag = np.take_along_axis(measured.slope, lag_index[..., None], axis=2)[..., 0]
    spread = _deviations(data.bar_returns)
    ratio = spread[None, :] / np.where(spread > 0, spread, 1.0)[:, None]  # (follower, leader)
    ratio = ratio / np.sqrt(data.horizon)
    effect = at_lag * ratio * np.where(matrices["p_value"] < 1, matrices["slope"], 0.0)
    half = 1.96 * np.abs(at_lag * ratio) * matrices["slope_error"]
    size = np.abs(measured.total).mean(axis=0)
    np.fill_diagonal(size, 0.0)
    share = size / np.where(size.sum(axis=1) > 0, size.sum(axis=1), 1.0)[:, None]
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
        method=CONTRIBUTION_TEST,
        n_windows=len(data),
        **{name: values[places] for name, values in columns.items()},
    )


def _test_follower(
    follower: int,
    measured: Contributions,
    data: CrossAttentionData,
    volatility_weights: bool,
    matrices: dict[str, np.ndarray],
) -> None:
    """Fill row ``follower`` of every matrix."""
    target = np.asarray(data.y[:, follower], float)
    parts = measured.total[:, follower]  # (n, N)
    known = np.isfinite(target) & np.isfinite(parts).all(axis=1)
    spread = parts[known].std(axis=0) if known.any() else np.zeros(parts.shape[1])
    typical = target[known].std() if known.any() else 0.0
    spoken = np.flatnonzero(spread > SILENT * max(typical, 1e-300))
    controls = np.empty((len(parts), 0))
    if follower not in spoken and RETURN_FEATURE in data.features:
        n_lags = min(measured.by_lag.shape[2], data.lookback)
        controls = lagged_log_returns(data, n_lags, np.array([follower]))[:, 0]  # (n, L)
    if known.sum() < 10 * (len(spoken) + controls.shape[1] + 2) or not len(spoken):
        return
    bars = data.next_returns[data.ends[0] : data.ends[-1] + data.horizon, follower]
    scale = np.ones(len(target))
    if volatility_weights:
        scale = recent_volatility(data, np.array([follower]), VOLATILITY_HALF_LIFE)[:, 0]
        reach = CLIP * np.pad(scale, (0, data.horizon - 1), mode="edge")[: len(bars)]
        bars = np.clip(bars, -reach, reach)
        scale = scale * np.sqrt(data.horizon)
        target = np.clip(target, -CLIP * scale, CLIP * scale)
    target, scale = target[known], scale[known]
    regressors = np.hstack([parts[:, spoken], controls])[known]
    overlap = None
    if data.horizon > 1 and np.isfinite(bars).mean() > 0.5:  # gaps hide what the targets hold
        overlap = Overlap(bars, np.flatnonzero(known), data.horizon)
    lags = newey_west_lags(len(target), data.horizon)
    fit = robust_regression(
        target, regressors, scale=scale, lags=lags, leverage=True, overlap=overlap
    )
    found = {
        "slope": fit.slope,
        "slope_error": fit.error,
        "t": fit.t,
        "p_value": fit.p_positive,
        "clark_west": _clark_west_of_each(target / scale, regressors, scale, lags, len(spoken)),
    }
    others = np.flatnonzero(spoken != follower)
    for name, values in found.items():
        matrices[name][follower, spoken[others]] = values[others]


def _clark_west_of_each(
    target: np.ndarray, parts: np.ndarray, scale: np.ndarray, lags: int, n_sources: int
) -> np.ndarray:
    """P-value of each source: it beside the others, against the others as they fit best.

    Against the others as the model weighs them, an idle source would be credited with undoing
    their errors, which are correlated with its own.
    """
    size = parts.std(axis=0)
    parts = parts / np.where(size > 0, size, 1.0)
    design = np.column_stack([parts, np.ones(len(parts))]) / scale[:, None]
    p_values = np.empty(n_sources)
    for source in range(n_sources):
        rest, own = np.delete(design, source, axis=1), design[:, source]
        bread = np.linalg.pinv(rest.T @ rest, hermitian=True)
        smaller, shared = (rest @ (bread @ (rest.T @ values)) for values in (target, own))
        p_values[source] = clark_west(target, smaller, smaller + own - shared, lags)
    return p_values


def _deviations(returns: np.ndarray) -> np.ndarray:
    """Standard deviation (N,) over the bars that exist, 0 where there are none."""
    spread = np.zeros(returns.shape[1])
    there = np.isfinite(returns).any(axis=0)
    spread[there] = np.nanstd(returns[:, there], axis=0)
    return spread


def _chosen(symbols: Sequence[str] | None, known: tuple[str, ...]) -> tuple[str, ...] | None:
    if symbols is None:
        return None
    unknown = [symbol for symbol in symbols if symbol not in known]
    if unknown or len(set(symbols)) < 2:
        raise InvalidInputError(
            f"symbols must be two or more of {list(known)}, got {list(symbols)}"
        )
    return tuple(dict.fromkeys(symbols))
