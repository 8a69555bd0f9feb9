"""Check bars before training: clocks, missing bars, splits, misprints, stale prices, duplicates.

Every finding has a kind (``KINDS``, with its thresholds), a moment, a figure and a sentence.
A late listing, closed hours and single missing bars are no findings: the coverage shows them.
"""

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from crossattn.data import _clock_faults as clocks
from crossattn.data import _panel_faults as panel
from crossattn.data import _price_faults as prices
from crossattn.data import _series as series
from crossattn.data._series import Fault, Series, shown
from crossattn.data.frame import Frames, Tables, check_frames
from crossattn.errors import InvalidInputError

MOST_ALIKE = 5  # findings of one kind and asset

#: What each kind of finding means, with its thresholds; a deviation is a robust local one.
KINDS: dict[str, str] = {
    "few bars": f"fewer than {clocks.FEW_BARS} bars; figure: bars",
    "constant": "one close in all bars; figure: bars",
    "stale": f"at least {prices.STALE_BARS} equal closes in a row, and {prices.STALE_RUNS:g} times "
    "the longest run that the share of equal closes around makes by chance, or no move in "
    f"{prices.FILLED:.0%} of the bars at the same times of {prices.FILLED_WEEKS} weeks; figure: "
    "bars",
    "zero volume": f"volume is 0 in {prices.NO_VOLUME:.0%} of the bars or more; figure: share",
    "split": "the open is a split's factor (3:2, 2:1 ... 1000:1, or reverse) away from the close "
    f"before, within {prices.SPLIT_NIGHT:g} deviations and {prices.SPLIT_SLACK[1]:.0%} of its "
    f"logarithm, by {prices.SPLIT_DEVIATIONS:g} deviations or more (3:2: twice "
    "that), and the level stays; figure: old over new",
    "jump": f"the open is {np.exp(prices.LEVEL_JUMP):.0f} times the close before or a "
    f"{np.exp(prices.LEVEL_JUMP):.0f}rd, by no split's factor, and the level stays; figure: new "
    "over old",
    "misprint": f"an open or close {prices.MISPRINT_DEVIATIONS:g} deviations and "
    f"{np.expm1(prices.MISPRINT):.0%} off the {prices._NEAR} closes before and after, or a high or "
    f"low {prices.WICK_DEVIATIONS:g} deviations and a factor of {np.exp(prices.WICK):.0f} off; "
    "figure: price over those closes",
    "spacing": f"{clocks.SPACING_RUN} bars in a row, or the whole file, at a spacing "
    f"{clocks.OTHER_SPACING:g} times longer or shorter than elsewhere; figure: ratio",
    "missing": f"more than {clocks.MISSING:.0%} of the bars are missing at times of the week at "
    "which the asset has bars; figure: share",
    "gap": f"no bar for {series.GAP_BARS} spacings and {series.GAP_CLOSURES:g} of the asset's long "
    f"closures (quantile {series.CLOSURE_QUANTILE:g} of its steps); figure: bars",
    "ends early": f"ends {clocks.END_BARS} spacings and {series.GAP_CLOSURES:g} closures before "
    "the median of the others; figure: days",
    "clock": f"more than {1 - clocks.MEET:.0%} of the bars close beside those of the largest group "
    "of assets that close together, by up to half a spacing; figure: offset in seconds",
    "late clock": "the correlation with the others' common move is large "
    f"({panel.SHIFT_CORRELATION:g}, or {panel.SHIFT_OF_TWO:g} between two assets, and "
    f"{panel.SHIFT_OF_USUAL:.0%} to {panel.SHIFT_MOST:.0%} of the others' own) up to "
    f"{panel.SHIFTS} bars before, near nothing in the same bar (below {panel.SHIFT_AT_ZERO:.0%} of "
    f"that, or two standard errors) and below {panel.SHIFT_SECOND:.0%} of it elsewhere, in all or "
    "a quarter of the history; figure: bars",
    "early clock": "the same, after; figure: bars, negative",
    "duplicate": f"the return is another asset's, up to a factor, within {panel.SAME:.0%} of its "
    f"size in {panel.SAME_SHARE:.0%} of {panel.SAME_BARS} bars or more; figure: share of bars",
}


@dataclass(frozen=True, eq=False)
class BarsReport:
    """What :func:`check_bars` found.

    Attributes
    ----------
    findings : DataFrame
        A row each: ``symbol``, ``kind`` (a key of ``KINDS``), ``moment`` (open of the bar at
        which it begins), ``figure`` (see the kind) and ``text``, in the order of the symbols.
    coverage : DataFrame
        A row per symbol: ``first`` and ``last`` (opens), ``bars``, ``spacing`` (the most frequent
        one), ``share`` of the rows of the common clock within the asset's life, ``known_targets``
        (share of its bars that have a return to the next row of that clock), ``remark``.
    """

    findings: pd.DataFrame
    coverage: pd.DataFrame = field(repr=False)

    @property
    def ok(self) -> bool:
        """True where nothing was found."""
        return self.findings.empty

    @property
    def lines(self) -> list[str]:
        """One line per finding."""
        found = zip(self.findings["symbol"], self.findings["text"], strict=True)
        return [f"{shown(symbol)}: {text}" for symbol, text in found]

    def __str__(self) -> str:
        return "\n".join(self.lines) or f"no findings in {len(self.coverage)} assets"

    def __repr__(self) -> str:
        return f"BarsReport({len(self.findings)} findings, {len(self.coverage)} assets)"

    def _repr_html_(self) -> str:
        findings = "" if self.ok else self.findings.to_html(index=False)
        return f"<p>{html.escape(repr(self))}</p>{findings}{self.coverage.to_html()}"


def check_bars(frames: Tables) -> BarsReport:
    """Check bars for faults that train silently: clocks, gaps, splits, misprints, duplicates.

    Parameters
    ----------
    frames : dict of str to DataFrame
        Bars by symbol; see :func:`crossattn.data.frame.check_frame`.

    Returns
    -------
    BarsReport

    Raises
    ------
    InvalidInputError
        A frame is no bars at all: wrong columns, unsorted times, prices that no bar can have.

    Notes
    -----
    A finding is a suspicion about the data, never a change to it, and looks at the whole history:
    it is for the reader, not an input of a model. ``KINDS`` lists kinds and thresholds. What
    compares assets uses at most about three million cells, spread over the history.

    Built in chapter: Data and clocks.

    Examples
    --------
    >>> from crossattn.simulate.market import simulate_market
    >>> frames = simulate_market(n_assets=3, n_steps=500).frames
    >>> check_bars(frames).ok
    True
    >>> frames["A01"].iloc[200:, :4] /= 10
    >>> print(check_bars(frames))
    A01: looks like a 10:1 split at 2022-01-09 08:00: opens at 0.1 of the close before
    """
    assets = [Series(symbol, frame) for symbol, frame in _checked(frames).items()]
    found = [fault for asset in assets if (fault := clocks.clock_fault(asset))]
    found += [fault for asset in assets for fault in _largest(prices.price_faults(asset))]
    found += clocks.shared_clock_faults(assets)
    found += panel.panel_faults(assets)
    place = {asset: number for number, asset in enumerate(assets)}
    found.sort(key=lambda fault: place[fault.asset])
    return BarsReport(_findings(found), _coverage(assets))


def _largest(faults: Iterable[Fault]) -> list[Fault]:
    """Return the faults of one asset; of many of a kind the largest, the first with their count."""
    by_kind: dict[str, list[Fault]] = {}
    for fault in faults:
        by_kind.setdefault(fault.kind, []).append(fault)
    kept = []
    for alike in by_kind.values():
        if len(alike) > MOST_ALIKE:
            sizes = np.abs(np.log([fault.figure for fault in alike]))
            largest = [alike[place] for place in np.sort(np.argsort(-sizes)[:MOST_ALIKE])]
            text = f"{largest[0].text}; {len(alike)} of this kind in all"
            alike = [replace(largest[0], text=text), *largest[1:]]
        kept += alike
    return kept


def _checked(frames: Tables) -> Frames:
    """Return the frames in canonical form; one error names all that are no bars."""
    if not isinstance(frames, Mapping) or not frames:
        return check_frames(frames)  # which refuses it
    checked: Frames = {}
    errors = []
    for symbol, frame in frames.items():
        try:
            checked |= check_frames({symbol: frame})
        except InvalidInputError as error:
            errors.append(str(error))
    if errors:
        raise InvalidInputError("; ".join(errors))
    return checked


def _findings(found: list[Fault]) -> pd.DataFrame:
    columns = {
        "symbol": [fault.asset.symbol for fault in found],
        "kind": [fault.kind for fault in found],
        "moment": pd.DatetimeIndex([fault.asset.opens[fault.row] for fault in found], tz="UTC"),
        "figure": np.array([fault.figure for fault in found], float),
        "text": [fault.text for fault in found],
    }
    return pd.DataFrame(columns).astype(dict.fromkeys(("symbol", "kind", "text"), object))


def _coverage(assets: list[Series]) -> pd.DataFrame:
    rows, _ = clocks.rows_on_clock(assets)
    firsts = np.array([asset.known[0] for asset in assets])
    table = {}
    for place, (asset, own) in enumerate(zip(assets, rows, strict=True)):
        spacing = None if asset.spacing is None else pd.Timedelta(asset.spacing, asset.opens.unit)
        remark = ""
        if len(assets) > 1 and spacing is not None:
            late = int(asset.known[0] - np.median(np.delete(firsts, place)))
            if late > clocks.END_BARS * asset.spacing:
                days = pd.Timedelta(late, asset.opens.unit) / pd.Timedelta(1, "D")
                remark = f"starts {days:.1f} days after the others"
        table[asset.symbol] = {
            "first": asset.opens[0],
            "last": asset.opens[-1],
            "bars": len(asset),
            "spacing": spacing,
            "share": len(own) / (own[-1] - own[0] + 1),
            "known_targets": float(np.mean(np.diff(own, append=own[-1] + 2) == 1)),
            "remark": remark,
        }
    coverage = pd.DataFrame.from_dict(table, orient="index")
    coverage.index.name = "symbol"
    return coverage
