"""A null made of refits: what would this model find where nobody can lead anybody?

A p-value from a formula trusts the formula. Here the whole procedure, fitting included, is run
again on markets whose assets were moved in time against each other, and on several seeds.

Built in chapter: Who really leads?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.evidence.inference import benjamini_hochberg
from crossattn.evidence.leadlag import analyze_lead_lag_relationships
from crossattn.evidence.report import LeadLagReport
from crossattn.windows.dataset import CrossAttentionData

__all__ = ["SurrogateNull", "stability", "surrogate_null", "surrogate_part"]

METHODS = ("circular_shift", "stationary_bootstrap")
LEAST_LOOKBACKS = 3


@dataclass(frozen=True)
class SurrogateNull:
    """Each pair's statistic on the market beside the largest ones of markets without leaders.

    Attributes
    ----------
    edges : DataFrame
        One row an ordered pair, surest first: ``leader``, ``follower``, ``statistic`` (the joint t
        of the contribution on the test part), ``p_value`` (family-wise: share of surrogate markets
        whose *largest* statistic over all pairs is at least this, the real market counted among
        them), ``q_value`` (Benjamini-Hochberg over p-values from the statistics of all pairs and
        surrogates pooled), ``significant`` (``p_value <= alpha``).
    statistics : DataFrame of shape (n_surrogates, n_pairs)
        The statistics on the surrogates; columns (``leader``, ``follower``).
    method : str
        How the surrogates were made.
    alpha : float
        Accepted chance that any claim at all is made where nobody leads.
    """

    edges: pd.DataFrame
    statistics: pd.DataFrame
    method: str
    alpha: float

    @property
    def nobody_leads(self) -> bool:
        """Whether no pair stands out of what the surrogates give."""
        return not self.edges["significant"].any()

    def __str__(self) -> str:
        count, pairs = int(self.edges["significant"].sum()), len(self.edges)
        verdict = "Nobody leads" if self.nobody_leads else f"{count} of {pairs} pairs stand"
        return f"{verdict} at p ≤ {self.alpha:g} ({len(self.statistics)} refits, {self.method})"

    def _repr_html_(self) -> str:
        found = self.edges[self.edges["significant"]]
        shown = found if len(found) else self.edges.head(3)
        return f"<p><strong>{escape(str(self))}</strong></p>" + shown.to_html(
            index=False, float_format="{:.4g}".format
        )


def surrogate_null(
    make_model: Callable[[], object],
    train: CrossAttentionData,
    val: CrossAttentionData | None,
    test: CrossAttentionData,
    *,
    n_surrogates: int = 19,
    method: str = "circular_shift",
    alpha: float = 0.05,
    seed: int = 0,
    n_jobs: int = 1,
) -> SurrogateNull:
    """Refit on markets in which nobody can lead, and ask whether the real one stands out.

    Parameters
    ----------
    make_model : callable
        Gives a new, unfitted model with ``fit(train, val)`` that
        :func:`crossattn.evidence.contributions.measure_contributions` understands.
    train, val, test : CrossAttentionData
        Parts in time order, as ``data.split()`` gives them; ``val`` may be None.
    n_surrogates : int
        Refits. The smallest p-value is ``1 / (1 + n_surrogates)``, so 19 just reach 5 %.
    method : {"circular_shift", "stationary_bootstrap"}
        How each asset is moved in time, see :func:`surrogate_part`.
    alpha : float
        Accepted chance of any false claim.
    seed : int
        Of the moves; the same for every ``n_jobs``.
    n_jobs : int
        Refits at the same time, in processes (joblib); -1: all cores.

    Returns
    -------
    SurrogateNull

    Raises
    ------
    InvalidInputError
        An unknown method, too few surrogates to reach alpha, parts out of order or too short.

    Notes
    -----
    The statistic is the joint t of :func:`crossattn.evidence.leadlag.contribution_test`, taken the
    same way on the market and on each surrogate: fitted on ``train`` and ``val``, tested on
    ``test``, every part without its first ``lookback - 1`` windows, which reach into the part
    before. With :math:`m_s` the largest t over all pairs of surrogate s,

    .. math:: p_{ij} = \\frac{1 + \\#\\{s : m_s \\ge t_{ij}\\}}{1 + n}.

    The maximum takes the many pairs into account, so that p needs no further correction. The
    q-value pools all pairs, which assumes that an idle t has one law for all of them.

    Limits. Moving assets apart breaks their common volatility, common factors and common hours
    along with any lead: the null is "these assets have nothing to do with each other", and a
    small p-value rejects that, not only "nobody leads". The regression with robust errors in
    :func:`crossattn.analyze_lead_lag_relationships`, which keeps all of it, remains the main test,
    and this one asks whether fitting and choosing have fooled it. A few windows a part
    hold a seam, where two distant moments meet.

    References
    ----------
    Theiler, Eubank, Longtin, Galdrikian and Farmer (1992), "Testing for Nonlinearity in Time
    Series: The Method of Surrogate Data", Physica D 58. Politis and Romano (1994), "The Stationary
    Bootstrap", JASA 89(428). Westfall and Young (1993), "Resampling-Based Multiple Testing", on
    the maximum.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> from crossattn.baselines.linear import VAR
    >>> market = simulate_market("null", n_assets=3, n_steps=900, seed=1)
    >>> data = prepare_cross_attention_data(
    ...     market.frames, lookback=4, horizon=1, features=["log_return"]
    ... )
    >>> null = surrogate_null(lambda: VAR(max_lag=2), *data.split(), n_surrogates=4, alpha=0.2)
    >>> null.statistics.shape, bool(null.edges["p_value"].min() >= 0.2)
    ((4, 6), True)
    """
    _check_settings(make_model, n_surrogates, method, alpha)
    parts = _checked_parts(train, val, test)
    seeds = [None, *np.random.SeedSequence(seed).spawn(n_surrogates)]
    if n_jobs == 1:
        measured = [_refit(make_model, parts, method, each) for each in seeds]
    else:
        from joblib import Parallel, delayed

        measured = Parallel(n_jobs=n_jobs)(
            delayed(_refit)(make_model, parts, method, each) for each in seeds
        )
    real = measured[0]
    nulls = pd.DataFrame([each.reindex(real.index) for each in measured[1:]])
    statistics = nulls.reset_index(drop=True).rename_axis("surrogate")
    largest = statistics.to_numpy().max(axis=1)
    edges = real.rename("statistic").reset_index()
    edges["p_value"] = _share_at_least(largest, real.to_numpy())
    edges["q_value"] = benjamini_hochberg(
        _share_at_least(statistics.to_numpy().ravel(), real.to_numpy())
    )
    edges["significant"] = edges["p_value"] <= alpha
    edges = edges.sort_values("statistic", ascending=False, kind="stable", ignore_index=True)
    return SurrogateNull(edges, statistics, method, alpha)


def surrogate_part(
    part: CrossAttentionData, method: str, rng: np.random.Generator | None
) -> CrossAttentionData:
    """Move each asset of a part in time, on its own; all that belongs to it moves together.

    Parameters
    ----------
    part : CrossAttentionData
        Windows; only the rows at which they end are used, and those are nobody else's.
    method : {"circular_shift", "stationary_bootstrap"}
        ``circular_shift`` rotates each asset by a random number of rows of its own, and changes no
        value; no two are rotated to within ``lookback + horizon`` rows of each other, where what
        two assets share at one moment would become a lead (where the part is too short for that,
        they are as far apart as it allows). ``stationary_bootstrap`` lays out blocks of it that
        start anywhere and last a geometric number of rows, four lookbacks on average.
    rng : numpy.random.Generator or None
        None moves nothing: the part as the real market sees it, on the same rows.

    Returns
    -------
    CrossAttentionData
        With a panel of its own, and ``lookback - 1`` windows fewer than ``part``.
    """
    rows = np.asarray(part.ends)
    n_rows, n_assets = len(rows), len(part.symbols)
    order = np.tile(np.arange(n_rows)[:, None], (1, n_assets))  # (n, N)
    if rng is not None and method == "circular_shift":
        gap = part.lookback + part.horizon
        order = (order + _rotations(n_rows, n_assets, gap, rng)) % n_rows
    elif rng is not None:
        block = 4.0 * part.lookback
        order = np.column_stack([_blocks(n_rows, block, rng) for _ in range(n_assets)])
    moved = rows[order]
    assets = np.arange(n_assets)
    return replace(
        part,
        panel=np.ascontiguousarray(part.panel[moved, assets]),
        ends=np.arange(part.lookback - 1, n_rows),
        targets=part.targets[moved, assets],
        next_returns=part.next_returns[moved, assets],
        closes=part.closes[moved, assets],
        clock=part.clock[rows],
    )


def stability(reports: Sequence[LeadLagReport]) -> pd.DataFrame:
    """Say what several reports on the same pairs, of several seeds, agree on.

    Parameters
    ----------
    reports : sequence of LeadLagReport
        Two or more, on the same symbols in any order.

    Returns
    -------
    DataFrame
        One row an ordered pair, steadiest first: ``leader``, ``follower``, ``share_significant``
        (of the reports), ``effect_mean``, ``effect_spread`` (standard deviation over reports, n - 1
        in the denominator), ``lag`` (the most frequent; the shorter of two), ``lag_agreement`` and
        ``sign_agreement`` (share of reports with that lag; with the more frequent sign of effect,
        an effect of 0 having none).

    Raises
    ------
    InvalidInputError
        Fewer than two reports, something else among them, or other symbols.

    Notes
    -----
    Seeds share the bars, so agreement says that the fit is steady, not that the claim is true: a
    proxy can be found every time.

    Examples
    --------
    >>> from crossattn.evidence.report import make_report
    >>> def one(effect):
    ...     fill = {"alpha": 0.05, "method": "by hand", "n_windows": 9, "lag": np.ones((2, 2))}
    ...     p_value = np.full((2, 2), 0.01)
    ...     return make_report(("A", "B"), effect=np.full((2, 2), effect), p_value=p_value, **fill)
    >>> table = stability([one(0.1), one(0.3)])
    >>> table["share_significant"].tolist(), table["effect_mean"].round(2).tolist()
    ([1.0, 1.0], [0.2, 0.2])
    """
    reports = list(reports)
    for report in reports:
        if not isinstance(report, LeadLagReport):
            raise InvalidInputError(f"reports must be LeadLagReports, got {type(report).__name__}")
    if len(reports) < 2:
        raise InvalidInputError(f"reports must be two or more, got {len(reports)}")
    for report in reports[1:]:
        if set(report.symbols) != set(reports[0].symbols):
            raise InvalidInputError(
                f"reports must be on the same symbols {list(reports[0].symbols)}, "
                f"got {list(report.symbols)}"
            )
    pairs = pd.concat([report.edges for report in reports]).groupby(
        ["leader", "follower"], sort=False
    )
    lag = pairs["lag"].agg(lambda lags: lags.mode().iloc[0])
    table = pd.DataFrame(
        {
            "share_significant": pairs["significant"].mean(),
            "effect_mean": pairs["effect"].mean(),
            "effect_spread": pairs["effect"].std(ddof=1),
            "lag": lag,
            "lag_agreement": pairs["lag"].agg(lambda lags: (lags == lags.mode().iloc[0]).mean()),
            "sign_agreement": pairs["effect"].agg(
                lambda effects: max((effects > 0).mean(), (effects < 0).mean())
            ),
        }
    ).reset_index()
    return table.sort_values(
        ["share_significant", "sign_agreement"], ascending=False, kind="stable", ignore_index=True
    )


def _refit(make_model, parts, method: str, seed) -> pd.Series:
    """Fit and test once; the joint t by (leader, follower). Without a seed, nothing is moved."""
    rng = None if seed is None else np.random.default_rng(seed)
    train, val, test = (None if p is None else surrogate_part(p, method, rng) for p in parts)
    model = make_model()
    model.fit(train, val)
    details = analyze_lead_lag_relationships(model, test).details
    return details.set_index(["leader", "follower"])["t"]


def _share_at_least(null: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Share of the null, the real one counted in, that reaches each real statistic."""
    return (1 + (null[None, :] >= real[:, None]).sum(axis=1)) / (1 + len(null))


def _rotations(n_rows: int, n_assets: int, gap: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation an asset, in slots of a circle with a gap between two of them."""
    slot = n_rows // n_assets
    within = rng.integers(max(slot - gap, 1), size=n_assets)
    return rng.permutation(n_assets) * slot + within + rng.integers(n_rows)


def _blocks(n_rows: int, mean_length: float, rng: np.random.Generator) -> np.ndarray:
    """Rows of one stationary-bootstrap draw: with chance 1 / mean_length a new block starts."""
    fresh = rng.random(n_rows) < 1 / mean_length
    fresh[0] = True
    starts = np.flatnonzero(fresh)
    first = rng.integers(n_rows, size=len(starts))
    block = np.cumsum(fresh) - 1
    return (first[block] + np.arange(n_rows) - starts[block]) % n_rows


def _check_settings(make_model, n_surrogates, method, alpha) -> None:
    if not callable(make_model):
        raise InvalidInputError(
            f"make_model must be a callable that gives a new model, got {type(make_model).__name__}"
        )
    if method not in METHODS:
        raise InvalidInputError(f"method must be one of {METHODS}, got {method!r}")
    if not 0 < alpha < 1:
        raise InvalidInputError(f"alpha must be between 0 and 1, got {alpha!r}")
    whole = isinstance(n_surrogates, int | np.integer) and not isinstance(n_surrogates, bool)
    if not whole or n_surrogates < 1 or 1 / (1 + n_surrogates) > alpha:
        raise InvalidInputError(
            f"n_surrogates must be at least {int(np.ceil(1 / alpha - 1e-9)) - 1} to reach "
            f"alpha={alpha:g}, got {n_surrogates!r}"
        )


def _checked_parts(train, val, test) -> tuple:
    """Return the three parts, in time order and long enough to be moved."""
    latest = None
    for name, part in (("train", train), ("val", val), ("test", test)):
        if part is None and name == "val":
            continue
        if not isinstance(part, CrossAttentionData):
            raise InvalidInputError(f"{name} must be CrossAttentionData, got {type(part).__name__}")
        least = LEAST_LOOKBACKS * part.lookback
        if len(part) < least:
            raise InvalidInputError(
                f"{name} must hold at least {least} windows ({LEAST_LOOKBACKS} lookbacks), "
                f"got {len(part)}"
            )
        if latest is not None and part.timestamps[0] <= latest:
            raise InvalidInputError(f"{name} must begin after the part before it has ended")
        latest = part.timestamps[-1]
    return train, val, test
