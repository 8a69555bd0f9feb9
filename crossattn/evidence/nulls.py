"""Null markets and controls: surrogate refits, shuffled labels, reversed time.

A p-value from a formula relies on its assumptions. Here the procedure, fitting included, is
repeated where there is nothing to find.

Built in chapter: Who really leads?
Built in chapter: The bug museum.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd

from crossattn._validation import check_float, check_int, check_jobs, check_type
from crossattn.data.frame import Frame, Frames, check_frames, close_times
from crossattn.errors import InvalidInputError
from crossattn.evidence._models import forecast_kind
from crossattn.evidence.inference import benjamini_hochberg
from crossattn.evidence.leadlag import PairReport, analyze_lead_lag_relationships
from crossattn.evidence.scores import correlation
from crossattn.windows.checks import check_later, check_windows
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.variance import known_moments

LEAST_LOOKBACKS = 3
LEAST_BLOCKS = 20  # of shuffled labels


@dataclass(frozen=True)
class SurrogateNull(PairReport):
    """Statistic of each pair beside the largest statistics of surrogate markets without leaders."""

    #: a row an ordered pair, most significant first: ``leader``, ``follower``, ``statistic`` (joint
    #: t of the contribution on the test part), ``p_value`` (family-wise: share of surrogate markets
    #: whose *largest* statistic over all pairs is at least this, the real market among them),
    #: ``q_value`` (Benjamini-Hochberg over p-values from the statistics of all pairs and surrogates
    #: pooled), ``significant`` (``p_value <= alpha``), ``tested`` (as in the report of the real
    #: market: False, with p and q 1, where too few independent days leave nothing to test)
    edges: pd.DataFrame
    #: (n_surrogates, n_pairs): those on the surrogates; columns (``leader``, ``follower``)
    statistics: pd.DataFrame
    alpha: float  #: accepted probability of any claim at all where no asset leads

    criterion: ClassVar[str] = "p"

    def __str__(self) -> str:
        return f"{self.verdict} ({len(self.statistics)} refits)"


def surrogate_null(
    make_model: Callable[[], object],
    train: CrossAttentionData,
    val: CrossAttentionData | None,
    test: CrossAttentionData,
    *,
    n_surrogates: int = 19,
    alpha: float = 0.05,
    seed: int = 0,
    n_jobs: int = 1,
) -> SurrogateNull:
    """Test pairs against refits on surrogate markets in which no asset can lead.

    Parameters
    ----------
    make_model : callable
        Returns a new, unfitted model with ``fit(train, val)`` that
        :func:`crossattn.evidence.contributions.measure_contributions` accepts.
    train, val, test : CrossAttentionData
        Parts in time order, as ``data.split()`` gives them; ``val`` may be None. Each must hold as
        many bars as the model reads (a forecaster's ``minimum_tail_``): none of another part.
    n_surrogates : int
        Refits. The smallest p-value is ``1 / (1 + n_surrogates)``, so 19 just reach 5 %.
    alpha : float
        Accepted probability of any false claim.
    seed : int
        Seed of the surrogates; results do not depend on ``n_jobs``.
    n_jobs : int
        Parallel refits, in processes (joblib); -1: all cores.

    Notes
    -----
    The statistic is the joint t of :func:`crossattn.evidence.leadlag.contribution_test`, fitted on
    ``train`` and ``val`` and tested on ``test``, every part without its first ``lookback - 1``
    windows, which reach into the part before. With :math:`m_s` the largest t of surrogate s,

    .. math:: p_{ij} = \\frac{1 + \\#\\{s : m_s \\ge t_{ij}\\}}{1 + n}.

    The maximum accounts for the number of pairs, so that p needs no further correction. The
    q-value assumes that t has the same null law for all pairs.

    Moving assets apart breaks their common volatility, factors and hours along with any lead: a
    small p-value rejects the independence of the assets, not only the absence of leaders.
    :func:`crossattn.analyze_lead_lag_relationships` keeps all of it and remains the main test; this
    one checks that fitting and selection have not biased it. A few windows per part span the
    wrap-around point, where two distant moments meet.

    References
    ----------
    Theiler et al. (1992), Physica D 58, on surrogates. Westfall and Young (1993),
    "Resampling-Based Multiple Testing", on the maximum.

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
    from joblib import Parallel, delayed

    check_type("make_model", make_model, Callable, "callable")
    check_float("alpha", alpha, above=0, below=1)
    least = int(np.ceil(1 / alpha - 1e-9)) - 1  # to reach alpha at all
    check_int("n_surrogates", n_surrogates, at_least=max(least, 1))
    parts, n_jobs = (train, val, test), check_jobs(n_jobs)
    _check_parts(*parts)
    sequence = np.random.SeedSequence(check_int("seed", seed, at_least=0))
    seeds = [None, *sequence.spawn(n_surrogates)]
    tasks = (delayed(_refit)(make_model, parts, each) for each in seeds)
    real, *surrogates = Parallel(n_jobs=n_jobs)(tasks)
    nulls = pd.DataFrame([each["t"].reindex(real.index) for each in surrogates])
    statistics = nulls.reset_index(drop=True).rename_axis("surrogate")
    draws, t, tested = statistics.to_numpy(), real["t"].to_numpy(), real["tested"].to_numpy()
    edges = real["t"].rename("statistic").reset_index()
    edges["p_value"] = np.where(tested, _share_at_least(draws.max(axis=1), t), 1.0)
    edges["q_value"] = 1.0
    if tested.any():
        pooled = _share_at_least(draws[:, tested].ravel(), t[tested])
        edges.loc[tested, "q_value"] = benjamini_hochberg(pooled)
    edges["significant"] = edges["p_value"] <= alpha
    edges["tested"] = tested
    edges = edges.sort_values("statistic", ascending=False, kind="stable", ignore_index=True)
    return SurrogateNull(edges, statistics, alpha)


def surrogate_part(part: CrossAttentionData, rng: np.random.Generator | None) -> CrossAttentionData:
    """Rotate each source of a part in time independently: an asset's features and targets together.

    No value changes; ``lookback - 1`` windows are lost. Without ``rng`` nothing moves. Rotations
    differ by at least ``lookback + horizon`` rows (if the part is long enough), lest common moves
    become a lead.
    """
    rows = np.asarray(part.ends)
    n_rows, n_assets, n_sources = len(rows), len(part.symbols), len(part.sources)
    order = np.tile(np.arange(n_rows)[:, None], (1, n_sources))  # (n, S)
    if rng is not None:
        gap = part.lookback + part.horizon
        order = (order + _rotations(n_rows, n_sources, gap, rng)) % n_rows
    moved, outside = np.split(rows[order], [n_assets], axis=1)
    assets, series = np.arange(n_assets), np.arange(n_sources - n_assets)
    exogenous = part.exogenous
    return replace(
        part,
        panel=np.ascontiguousarray(part.panel[moved, assets]),
        ends=np.arange(part.lookback - 1, n_rows),
        clock=part.clock[rows],
        target_rows=np.searchsorted(rows, part.target_rows[rows]),
        exogenous=None if exogenous is None else exogenous[outside, series],
        **part.pick_assets((moved, assets)),
    )


def _refit(make_model, parts, seed) -> pd.DataFrame:
    """Fit and test once: ``t``, ``tested`` by (leader, follower). Without a seed nothing moves."""
    rng = None if seed is None else np.random.default_rng(seed)
    train, val, test = (None if p is None else surrogate_part(p, rng) for p in parts)
    model = _made(make_model)
    model.fit(train, val)
    details = analyze_lead_lag_relationships(model, test).details
    return details.set_index(["leader", "follower"])[["t", "tested"]]


def _made(make_model):
    """Make a model, and refuse what cannot be fitted."""
    model = make_model()
    if not hasattr(model, "fit"):
        raise InvalidInputError(f"make_model must give a model to fit, got {type(model).__name__}")
    return model


def _share_at_least(null: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Share of the null statistics, the real one among them, that reach each real statistic."""
    return (1 + (null[None, :] >= real[:, None]).sum(axis=1)) / (1 + len(null))


def _rotations(n_rows: int, n_sources: int, gap: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one rotation per source, in slots of a circle with a gap between neighbours."""
    # one slot each, the last `gap` rows of a slot left free; the whole circle is then turned
    slot = n_rows // n_sources
    within = rng.integers(max(slot - gap, 1), size=n_sources)
    return rng.permutation(n_sources) * slot + within + rng.integers(n_rows)


def _check_parts(train, val, test) -> None:
    """Refuse parts that are out of time order or too short to be moved."""
    before = None
    for name, part in (("train", train), ("val", val), ("test", test)):
        if part is None and name == "val":
            continue
        check_windows(name, part)
        least = LEAST_LOOKBACKS * part.lookback
        if len(part) < least:
            raise InvalidInputError(f"{name} must hold at least {least} windows, got {len(part)}")
        if before is not None:
            check_later(name, part, *before)
        before = name, part


@dataclass(frozen=True)
class ShuffleControl:
    """Skill with true labels beside skill with shuffled labels."""

    #: correlation of forecast and return on the test part, fitted on true labels; each asset's
    #: returns less their mean, which is the same however labels are shuffled
    score: float
    #: (n_shuffles,): the same, fitted on shuffled labels: the skill of luck and leaks
    shuffled: np.ndarray

    @property
    def p_value(self) -> float:
        """Share of shuffles with at least this score, the true fit among them."""
        return float((1 + (self.shuffled >= self.score).sum()) / (1 + len(self.shuffled)))

    @property
    def leaks(self) -> bool:
        """Whether skill survives the shuffle: its mean is above .02 and three standard errors."""
        error = self.shuffled.std(ddof=1) / np.sqrt(len(self.shuffled))
        return bool(self.shuffled.mean() > 3 * error and self.shuffled.mean() > 0.02)


def shuffle_labels(*parts: CrossAttentionData | None, seed: int = 0) -> tuple:
    """Return the parts with the returns that follow their windows permuted, NaN outside of them.

    Targets and next returns move together, by whole rows and within their part: in blocks of a
    horizon, as the overlap of targets widens the luck of a fit and so must stay; in 20 shorter ones
    where the part holds fewer. Parts of one panel share the permuted tables, as they share the true
    ones: a model may read both from either. None stays None.
    """
    rng, tables = np.random.default_rng(seed), {}
    for part in parts:
        if part is not None:
            n_blocks = max(len(part) // part.horizon, min(len(part), LEAST_BLOCKS))
            blocks = np.array_split(part.ends, n_blocks)
            order = np.concatenate([blocks[k] for k in rng.permutation(n_blocks)])
            labels = {"targets": part.targets, "next_returns": part.next_returns}
            nothing = {name: np.full_like(true, np.nan) for name, true in labels.items()}
            shared = tables.setdefault(id(part.panel), nothing)
            for name, true in labels.items():
                shared[name][part.ends] = true[order]
    return tuple(p if p is None else replace(p, **tables[id(p.panel)]) for p in parts)


def label_shuffle(
    make_model: Callable[[], object],
    train: CrossAttentionData,
    val: CrossAttentionData | None,
    test: CrossAttentionData,
    *,
    n_shuffles: int = 10,
    seed: int = 0,
) -> ShuffleControl:
    """Label-shuffle control: fit on true and on shuffled labels, score both on the test part.

    Parameters
    ----------
    make_model : callable
        Returns a new, unfitted model with ``fit(train, val)`` that forecasts returns.
    train, val, test : CrossAttentionData
        As in :func:`surrogate_null`.
    n_shuffles : int
        At least 2.
    seed : int

    Raises
    ------
    InvalidInputError
        An argument is wrong, or the model forecasts no returns. Volatility and covariance models
        learn from the past of the features itself, which is a forecast whatever the labels.

    Notes
    -----
    Shuffled are the targets and the next bar's returns of the windows, in blocks of a horizon; the
    features stay. Skill that survives was not learned from these labels: the target is inside X, or
    the test part was used before. A model that makes labels of its own, from closes or features,
    keeps its skill too.
    """
    check_type("make_model", make_model, Callable, "callable")
    for name, part in {"train": train, "val": val, "test": test}.items():
        if part is not None or name != "val":
            check_windows(name, part)
    check_int("n_shuffles", n_shuffles, at_least=2)
    seed = check_int("seed", seed, at_least=0)
    score = _skill(_made(make_model), train, val, test)
    wrong = (shuffle_labels(train, val, seed=seed + k) for k in range(n_shuffles))
    shuffled = [_skill(_made(make_model), *each, test) for each in wrong]
    return ShuffleControl(score, np.array(shuffled))


def _skill(model, train, val, test) -> float:
    """Fit, and correlate forecasts with the test part's returns; refuse models of anything else."""
    of_returns = hasattr(model, "predict") and forecast_kind(model) == "return"
    forecast = model.fit(train, val).predict(test) if of_returns else None
    if np.shape(forecast) != test.y.shape:
        raise InvalidInputError(f"make_model must forecast returns, got {type(model).__name__}")
    return correlation(forecast, test.y - known_moments(test.y)[0])


def reverse_time(frames: Frames) -> Frames:
    """Return the bars with time reversed, between the first open and the last close of all.

    A true lead changes direction. A pair as strong in the *same* direction both ways is a
    simultaneous effect, or a target inside the features.

    Examples
    --------
    >>> from crossattn import simulate_market
    >>> frames = simulate_market(n_assets=2, n_steps=50, seed=0).frames
    >>> twice = reverse_time(reverse_time(frames))
    >>> all(twice[s]["close"].equals(frames[s]["close"]) for s in frames)
    True
    """
    frames = check_frames(frames)
    first = min(frame.index[0] for frame in frames.values())
    last = max(close_times(frame)[-1] for frame in frames.values())
    return {symbol: _backwards(frame, first, last) for symbol, frame in frames.items()}


def _backwards(frame: Frame, first: pd.Timestamp, last: pd.Timestamp) -> Frame:
    """Mirror the bars of one symbol between the first open and the last close of all."""
    opens = (first + (last - close_times(frame)))[::-1].rename(frame.index.name)
    swap = {"open": "close", "close": "open"}
    turned = frame.iloc[::-1].rename(columns=swap)[list(frame.columns)].set_axis(opens)
    if "close_time" in turned:
        turned["close_time"] = first + (last - frame.index[::-1])
    turned.attrs = dict(frame.attrs)
    return turned
