"""Leakage audit: change future bars, run the pipeline again, and compare the past rows.

A value dated t that uses only what was known at t cannot depend on any bar that closed later.

Built in chapter: The bug museum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral

import numpy as np
import pandas as pd

from crossattn._validation import check_choice, check_int, check_names, check_type
from crossattn.data.frame import Frames, check_frames
from crossattn.data.panel import Panel, check_panel
from crossattn.errors import CrossAttentionError, InvalidInputError
from crossattn.evidence import _perturbations as perturbations
from crossattn.figures import PALETTE, Axes, new_axes

CHECKS = (*perturbations.CHANGES, "gaps")
_FINDING = ["column", "first_moved", "last_moved", "n_moved", "largest_change", "usual_size"]
# Of the column's usual size over all of its rows. Sums in float32 are rounded differently in
# batches of another length: by some units in the last place (1.2e-7) of what is summed.
TOLERANCE = 4e-6
Pipeline = Callable[[Frames | Panel], "pd.DataFrame | pd.Series"]


@dataclass(frozen=True)
class LeakageReport:
    """Results of a leakage audit: what moved when the future changed.

    Attributes
    ----------
    violations : DataFrame
        One row per check, moment and column that moved: ``check``, ``cut`` (bars known later were
        changed), ``column``, ``first_moved`` and ``last_moved`` (dates of output rows, all at or
        before ``cut``), ``n_moved``, ``largest_change`` (inf where a value appeared, vanished or is
        no number) and the column's ``usual_size``: median magnitude of its values other than 0.
    checks : DataFrame
        One row per check and moment: ``check``, ``cut``, ``outcome`` ("same", "moved", "not run"),
        ``reason`` (the pipeline's error where it could not run).
    passed : bool
        Nothing moved, and every kind of check ran at least once.
    """

    violations: pd.DataFrame
    checks: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether nothing moved and every kind of check ran."""
        return self.violations.empty and not self._idle()

    def __str__(self) -> str:
        if not self.violations.empty:
            worst = self.violations.sort_values("first_moved", kind="stable").iloc[0]
            size, usual = worst["largest_change"], worst["usual_size"]
            by = f"by {size:.2g} (usual size {usual:.2g})" if np.isfinite(size) else "in value"
            return (
                f"leak: {worst['column']} at {worst['first_moved']} moved {by} when bars known "
                f"after {worst['cut']} changed ({worst['check']}; {len(self.violations)} findings)"
            )
        if self._idle():
            reason = self.checks.loc[self.checks["outcome"] == "not run", "reason"].iloc[0]
            return f"undecided: {', '.join(self._idle())} could not run ({reason})"
        return f"passed: {len(self.checks)} changed futures, no earlier row moved"

    def _idle(self) -> list[str]:
        """Kinds of check that never ran."""
        ran = self.checks.groupby("check")["outcome"].agg(lambda found: (found != "not run").any())
        return ran.index[~ran].tolist()

    def _repr_html_(self) -> str:
        table = "" if self.violations.empty else self.violations.head(20).to_html(index=False)
        return f"<p><strong>Leakage audit</strong>: {escape(str(self))}</p>{table}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw each check at each moment: same, moved or not run."""
        import seaborn as sns

        ax = new_axes(ax)
        colours = {"same": PALETTE[2], "moved": PALETTE[5], "not run": "#999999"}
        markers = {"same": "o", "moved": "X", "not run": "s"}
        look = {"palette": colours, "markers": markers, "s": 60}
        look |= {"hue": "outcome", "style": "outcome"}
        sns.scatterplot(self.checks, x="cut", y="check", ax=ax, **look)
        ax.set(xlabel="moment after which the bars were changed (UTC)", title=str(self)[:90])
        sns.move_legend(ax, "upper left", bbox_to_anchor=(0, -0.2), ncols=3, title=None)
        ax.tick_params(axis="x", rotation=20)
        return ax


def audit_leakage(
    pipeline: Pipeline,
    data: Frames | Panel,
    *,
    cuts: int | Sequence[pd.Timestamp] = 8,
    checks: Sequence[str] = CHECKS,
) -> LeakageReport:
    """Audit a pipeline for look-ahead: values dated before they could be known.

    The future of the bars is perturbed, shuffled, poisoned, deleted and extended, and gaps are
    punched; rows dated at or before the moment of the change must not move.

    Parameters
    ----------
    pipeline : callable
        From bars (of the kind that ``data`` is) to a DataFrame or Series whose index is *when
        each row is claimed to be known*: features, labels dated when they are known, signals,
        forecasts, positions. It must be deterministic.
    data : Frames or Panel
        Frames | Panel to run it on; each bar counts as known at its close time.
    cuts : int or sequence of Timestamp
        Moments after which the future is changed: your own, or a number of them, chosen among the
        dates of the output (its first and last rows, where splits leak, and evenly between).
    checks : sequence of str
        Of "perturb", "shuffle", "poison", "delete", "extend", "gaps".

    Raises
    ------
    InvalidInputError
        The output carries no dates, the pipeline is not deterministic, it fails on the bars as
        they are, or a check is unknown.

    Notes
    -----
    A value moved if it changes by more than 4e-6 of its own and of the column's usual size, which
    allows for rounding in float32. A row that appears or vanishes counts as moved. A pipeline
    that raises on a changed future is "not run", never clean. The pipeline runs about
    ``4 * cuts + 9`` times; no audit proves that there is no leak between the moments tried.

    References
    ----------
    Kaufman, Rosset, Perlich and Stitelman (2012), "Leakage in Data Mining", ACM TKDD 6(4).

    Examples
    --------
    >>> from crossattn import simulate_market
    >>> from crossattn.data.frame import close_times
    >>> frames = simulate_market(n_assets=2, n_steps=200, seed=0).frames
    >>> def peek(frames):
    ...     frame = next(iter(frames.values()))
    ...     return pd.Series(frame["close"].shift(-1).to_numpy(), close_times(frame))
    >>> audit_leakage(peek, frames, cuts=2).passed
    False
    """
    if not callable(pipeline):
        raise InvalidInputError(f"pipeline must be callable, got {pipeline!r}")
    checks = check_names("checks", checks)
    for check in checks:
        check_choice("checks", check, CHECKS)
    panel = check_panel(data) if isinstance(data, pd.DataFrame) else None
    frames = check_frames(data) if panel is None else perturbations.frames_of(panel)

    def output_of(frames: Frames) -> pd.DataFrame:
        bars = {symbol: frame.copy() for symbol, frame in frames.items()}  # it may write into them
        bars = bars if panel is None else perturbations.panel_of(bars, panel.columns)
        try:
            output = pipeline(bars)
        except (CrossAttentionError, MemoryError):
            raise
        except Exception as error:  # untrusted code
            reason = f"{type(error).__name__}: {error}"
            raise InvalidInputError(f"pipeline fails on these bars: {reason}") from error
        return _dated(output)

    generator = np.random.default_rng(0)
    reference = output_of(frames)
    if _compare(reference, output_of(frames), reference.index.max(), 0.0):
        raise InvalidInputError("pipeline gives different results on the same bars: fix its seed")
    known = perturbations.known_times(frames)
    last = known[-1]
    moments = _choose_cuts(cuts, reference, last)
    outcomes: list[tuple] = []
    violations: list[tuple] = []

    def moved_by(check: str, cut: pd.Timestamp) -> list[tuple]:
        past, bars, kind = reference, frames, check
        if check == "gaps":
            at = known[known <= cut][-1:]
            bars, cut, kind = perturbations.punch_holes(frames, at), at[-1], "perturb"
            past = output_of(bars)
        changed = perturbations.change_future(bars, kind, cut, generator)
        return _compare(past, output_of(changed), cut)

    cuts_of = {"extend": [last], "gaps": moments[:: max(len(moments) // 3, 1)][:3]}
    for check in checks:
        for cut in cuts_of.get(check, moments):
            try:
                moved = moved_by(check, cut)
            except Exception as error:  # untrusted code: any failure is an outcome
                reason = f"{type(error).__name__}: {error}"[:200]
                outcomes.append((check, cut, "not run", reason))
            else:
                outcomes.append((check, cut, "moved" if moved else "same", ""))
                violations += [(check, cut, *finding) for finding in moved]
    return LeakageReport(
        violations=pd.DataFrame(violations, columns=["check", "cut", *_FINDING]),
        checks=pd.DataFrame(outcomes, columns=["check", "cut", "outcome", "reason"]),
    )


def _dated(output) -> pd.DataFrame:
    """Return the output as a table with one row per date and column names as text."""
    if isinstance(output, pd.Series):
        output = output.to_frame(output.name if output.name is not None else "value")
    check_type("the pipeline's result", output, pd.DataFrame, "a DataFrame or Series")
    if isinstance(output.index, pd.MultiIndex):
        rest = list(range(1, output.index.nlevels))
        output = output.unstack(rest)  # noqa: PD010 - the levels are dates and names, not columns
    if not isinstance(output.index, pd.DatetimeIndex) or output.index.tz is None:
        raise InvalidInputError(f"pipeline must date its rows in UTC, got {output.index.dtype}")
    if not len(output):
        raise InvalidInputError("pipeline returned no rows")
    table = output.copy()
    table.columns = [str(column) for column in table.columns]
    if not table.columns.is_unique or not table.index.is_unique:
        raise InvalidInputError("pipeline must return each date and each column once")
    return table.sort_index()


def _choose_cuts(cuts, reference: pd.DataFrame, last: pd.Timestamp) -> list[pd.Timestamp]:
    if not isinstance(cuts, Integral):
        try:
            moments = [pd.Timestamp(cut) for cut in cuts]
        except (TypeError, ValueError):
            moments = []
        if not moments or not all(moment.tz and moment < last for moment in moments):
            raise InvalidInputError(
                f"cuts must be a number or UTC times before {last}, got {cuts!r}"
            )
        return moments
    cuts = check_int("cuts", cuts)
    dates = reference.index
    filled = reference.notna().any(axis=1).to_numpy()
    dates = dates[filled] if filled.any() else dates
    even = np.linspace(0, len(dates) - 1, max(cuts - 2, 1) + 1).round().astype(int)
    places = dict.fromkeys([0, 1, *even, len(dates) - 2])
    chosen = sorted({dates[k] for k in places if 0 <= k < len(dates)})
    return [cut for cut in chosen if cut < last][: cuts + 2] or [dates[0]]


def _compare(
    past: pd.DataFrame, changed: pd.DataFrame, cut: pd.Timestamp, tolerance: float = TOLERANCE
) -> list[tuple]:
    """Compare rows dated at or before ``cut``; missing rows and columns count as NaN."""
    usual = {name: _usual_size(past[name]) for name in past}
    past, changed = past[past.index <= cut].align(changed[changed.index <= cut])
    rows, findings = past.index, []
    for column in past.columns:
        size = usual.get(column, 0.0)
        if (change := _change_of(past[column], changed[column], tolerance, size)).any():
            where = rows[change > 0]
            largest = float(change.max())
            findings.append((column, where[0], where[-1], len(where), largest, size))
    return findings


def _usual_size(column: pd.Series) -> float:
    """Median magnitude of a column's finite values other than 0; 0 where there is none."""
    size = np.abs(column.to_numpy(float)) if pd.api.types.is_numeric_dtype(column) else np.empty(0)
    size = size[np.isfinite(size) & (size > 0)]
    return float(np.median(size)) if size.size else 0.0


def _change_of(before: pd.Series, after: pd.Series, tolerance: float, usual: float) -> np.ndarray:
    """Size of each change beyond the tolerance: 0 where none, inf where a value became NaN."""
    both = before.isna() & after.isna()
    if not (pd.api.types.is_numeric_dtype(before) and pd.api.types.is_numeric_dtype(after)):
        return np.where(both | (before == after), 0.0, np.inf)
    old, new = before.to_numpy(float), after.to_numpy(float)
    allowed = tolerance * np.fmax(np.abs(old), usual)
    with np.errstate(invalid="ignore"):
        change = np.where(old == new, 0.0, np.abs(new - old))
    change = np.where(np.isnan(change), np.inf, change)
    return np.where(both.to_numpy() | (change <= np.nan_to_num(allowed)), 0.0, change)
