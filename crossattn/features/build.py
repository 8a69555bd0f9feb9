"""Build features from bars: every column at once, on wide frames, known at each row's close."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crossattn.config import DEFAULT_FEATURES
from crossattn.data.frame import Tables
from crossattn.data.panel import as_panel
from crossattn.errors import InvalidInputError, first_names, warn
from crossattn.features.registry import FEATURES, resolve_features
from crossattn.features.wide_bars import WideBars

MOST_FLAT = 0.5  # share of bars without a range, from which a symbol has none


def create_multi_asset_features(
    data: Tables | pd.DataFrame, features: Sequence[str] = DEFAULT_FEATURES
) -> pd.DataFrame:
    """Compute causal features of every asset on one clock.

    A row holds only what was known at its ``close_time``.

    Parameters
    ----------
    data : Frames or Panel
        Bars by symbol, or already aligned.
    features : sequence of str
        Names from :data:`~crossattn.features.registry.FEATURES`, or a group such as ``"calendar"``.

    Returns
    -------
    DataFrame
        Index ``close_time``; columns a MultiIndex (``feature``, ``symbol``), features in the order
        asked for. NaN while a feature warms up and where the symbol has no bar in the row; a return
        across such a gap is NaN too, while averages hold their state over it.

    Raises
    ------
    InvalidInputError
        Bad bars, an unknown feature, a symbol without a single price, or no feature that the source
        can carry.

    Warns
    -----
    CrossAttentionWarning
        Names the features that were dropped because a source has closes only, or no volume, and
        those without a single value for a symbol that has bars enough.

    Notes
    -----
    Returns are log returns from the symbol's own previous bar. A gap is a step of more than 1.5
    times the median (of the last 240) in which other symbols had more bars than usual, or of a
    symbol that never closes: one that in the last eight weeks had bars on every day of the week. A
    stock on its own clock has a return over the night. ``macd`` is the MACD line over the close.

    Built in chapter: Features without look-ahead.

    Examples
    --------
    >>> from crossattn import simulate_market
    >>> market = simulate_market(n_assets=3, n_steps=100)
    >>> table = create_multi_asset_features(market.frames, ["log_return", "rsi"])
    >>> table.shape, int(table["rsi"].iloc[:, 0].first_valid_index() == table.index[14])
    ((100, 6), 1)
    """
    bars = WideBars.of_panel(as_panel(data))
    names = usable_features(bars, features)
    values = np.concatenate([feature_array(bars, name) for name in names], axis=1)
    warn_unknown(bars, names, values.reshape(len(values), len(names), -1))
    columns = pd.MultiIndex.from_product([names, bars.symbols], names=["feature", "symbol"])
    return pd.DataFrame(values, index=bars.index, columns=columns)


def usable_features(bars: WideBars, features: Sequence[str]) -> tuple[str, ...]:
    """Return those of `features` that the bars of every symbol can carry; warn about the others."""
    names = resolve_features(features)
    lacking = _lacking_fields(bars)
    dropped = {
        name: field for name in names for field in FEATURES[name].needs if lacking.get(field)
    }
    kept = tuple(name for name in names if name not in dropped)
    if dropped:
        why = _reasons({field: lacking[field] for field in dropped.values()}, bars.symbols)
        if not kept:
            raise InvalidInputError(f"features: none of {', '.join(names)} can be computed ({why})")
        warn(f"features dropped: {', '.join(dropped)} ({why})", 3)
    return kept


def feature_array(bars: WideBars, name: str) -> np.ndarray:
    """Return the values of one feature, ``(T, N)``."""
    spec = FEATURES[name]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        values = np.array(spec.compute(bars))
    values[~np.isfinite(values)] = np.nan
    if not spec.every_row:
        values[~bars.present] = np.nan
    return values


def warn_unknown(bars: WideBars, features: Sequence[str], values: np.ndarray) -> None:
    """Warn of features ``(T, n_features, N)`` without a value for a symbol of twice the warm-up."""
    n_bars = bars.present.sum(axis=0)
    for column, name in enumerate(features):
        empty = np.isnan(values[:, column]).all(axis=0) & (n_bars > 2 * FEATURES[name].warm_up)
        if empty.any():
            symbols = first_names([bars.symbols[asset] for asset in np.flatnonzero(empty)])
            warn(f"features: {name} has no value for {symbols}, whose bars have too many gaps", 3)


def check_ranges(bars: WideBars, estimator: str) -> None:
    """Refuse symbols whose bars have no ranges that a volatility could be estimated from."""
    lacking = _lacking_fields(bars)
    without = {symbol for field in ("open", "high", "low") for symbol in lacking[field]}
    open_, high, low = (bars.field(name) for name in ("open", "high", "low"))
    partial = (bars.present & np.isnan(open_ + high + low)).sum(axis=0)
    flat = (bars.present & (high == low)).sum(axis=0) / bars.present.sum(axis=0)
    for symbol, missing, share in zip(bars.symbols, partial, flat, strict=True):
        fault = None
        if symbol in without:
            fault = "has closes only"
        elif missing:
            fault = f"lacks open, high or low in {missing} of its bars"
        elif share > MOST_FLAT:
            fault = f"has its high equal to its low in {share:.0%} of its bars"
        if fault:
            raise InvalidInputError(
                f"volatility_estimator {estimator!r} reads ranges, but {symbol} {fault}: leave it "
                'out or take volatility_estimator="close"'
            )


def _reasons(lacking: dict[str, list[str]], symbols: list[str]) -> str:
    """Say which fields are missing where, fields of the same symbols together."""
    fields_of: dict[tuple[str, ...], list[str]] = {}
    for field, those in lacking.items():
        fields_of.setdefault(tuple(those), []).append(field)
    parts = []
    for those, fields in fields_of.items():
        names = "any symbol" if len(those) == len(symbols) > 1 else first_names(those)
        parts.append(f"no {', '.join(fields)} for {names}")
    return "; ".join(parts)


def _lacking_fields(bars: WideBars) -> dict[str, list[str]]:
    """Which symbols do not really have a field: declared close-only, or never a value.

    A volume of 0 in every bar stands for an unknown one in feeds of currencies and indices.
    """
    symbols = bars.symbols
    if (empty := ~bars.present.any(axis=0)).any():
        raise InvalidInputError(f"data: {symbols[int(empty.argmax())]} has no price at all")
    # a list from frames, or True where a Panel took it over from its frames
    declared = symbols if bars.close_only is True else bars.close_only or ()
    lacking: dict[str, list[str]] = {}
    for field in ("open", "high", "low", "volume"):
        ever = dict(zip(symbols, (bars.field(field) > 0).any(axis=0), strict=True))
        lacking[field] = [symbol for symbol in symbols if symbol in declared or not ever[symbol]]
    return lacking
