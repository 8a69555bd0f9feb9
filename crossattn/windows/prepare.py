"""Prepare sliding windows and forward-return targets, from bars or from features."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from crossattn._validation import check_bool, check_choice, check_int, check_same_names, check_type
from crossattn.config import DEFAULT_FEATURES
from crossattn.data.durations import check_span
from crossattn.data.frame import Table, Tables, check_numbers, check_times
from crossattn.data.panel import as_panel
from crossattn.errors import InvalidInputError
from crossattn.features.build import check_ranges, feature_array, usable_features, warn_unknown
from crossattn.features.registry import warm_up_of
from crossattn.features.wide_bars import WideBars
from crossattn.windows import spans
from crossattn.windows.dataset import CrossAttentionData, frozen
from crossattn.windows.exogenous import with_exogenous

VOLATILITY_ESTIMATORS = ("close", "parkinson", "garman_klass")  # the others are features too


def prepare_cross_attention_data(
    data: Tables | pd.DataFrame,
    lookback: int | str | pd.Timedelta = 168,
    horizon: int | str | pd.Timedelta = 24,
    features: Sequence[str] = DEFAULT_FEATURES,
    *,
    exogenous: Table | None = None,
    how: str = "outer",
    include_latest: bool = False,
    volatility_estimator: str = "close",
) -> CrossAttentionData:
    """Prepare sliding windows of features and forward-return targets from bars.

    Parameters
    ----------
    data : Frames or Panel
        Bars by symbol, or already aligned; see :func:`crossattn.align_panel`.
    lookback : int, str or Timedelta
        Bars in a window. A duration such as ``"7d"`` becomes the fewest bars that always reach
        back so far: 168 on an hourly clock.
    horizon : int, str or Timedelta
        Bars over which the target looks ahead: row t's target is
        ``close[t + horizon] / close[t] - 1``, a simple return, known at row ``t + horizon``. Over a
        duration such as ``"24h"`` it is the return from the close at t to the asset's own last
        close up to 24 hours later.
    features : sequence of str
        See :data:`crossattn.features.registry.FEATURES`.
    exogenous : DataFrame, optional
        Series that lead and are never forecast, one per column; the index is the moment (UTC) at
        which a row is known. Each bar gets the newest row known at its close.
    how : {"outer", "common", "inner"}
        "outer": a row for every moment at which any bar closed. "common", or "inner": only those at
        which every symbol has a close.
    include_latest : bool
        Keep the newest `horizon` windows too, whose targets are not known yet (NaN in y): a
        forecast of today needs them.
    volatility_estimator : {"close", "parkinson", "garman_klass"}
        What ``realised_volatility`` adds up: squared log returns, or for each bar the squared gap
        from the last close to its open plus its variance from high and low (Parkinson), or from
        open, high, low and close (Garman-Klass).

    Returns
    -------
    CrossAttentionData
        Every window of consecutive rows after the warm-up of every feature.

    Raises
    ------
    InvalidInputError
        Bad bars, an unknown feature, a lookback or horizon that is neither bars nor a duration, too
        few rows; by name: a symbol without a known target in any window or, where the horizon
        counts bars, one that never closes together with another, or one without the ranges that
        ``volatility_estimator`` reads.

    Warns
    -----
    CrossAttentionWarning
        Names symbols of which less than 20 % of the targets are known, features without a value for
        a symbol, and exogenous series that are never known or never change.

    Notes
    -----
    A row is a moment at which some bar closed. Missing bars stay NaN in X and y, and ``.mask``
    shows them: nothing is filled. Where assets trade at different hours, 24 rows are 17 hours for
    one window and 3 days for another, and most targets end where the asset has no bar; a duration
    is the same for all. It begins and ends at prices that could be traded: y is NaN where the asset
    has no bar at t, or none within the duration after t (one hour after a Friday's last close), and
    ``.coverage`` counts these. Such a target is known at the first row at or after t + duration,
    and purged by that. Where no bar is missing, 24 hours on an hourly clock are 24 bars.

    A range measures a bar's variance with a fifth (Parkinson) or a seventh (Garman-Klass) of the
    noise of its squared return where prices move continuously; where trades are few, it is too low.

    With ``include_latest`` coverage is not checked: a tail for one forecast need not hold targets.

    Built in chapter: Windows, splits and leaks.

    Examples
    --------
    >>> from crossattn import simulate_market
    >>> market = simulate_market(n_assets=3, n_steps=300)
    >>> data = prepare_cross_attention_data(market.frames, lookback=48, horizon=12)
    >>> X, y, symbols, timestamps = data
    >>> X.shape, y.shape, len(timestamps) == len(data)
    ((208, 3, 48, 7), (208, 3), True)
    """
    reach = check_span("lookback", lookback), check_span("horizon", horizon)
    check_bool("include_latest", include_latest)
    check_choice("volatility_estimator", volatility_estimator, VOLATILITY_ESTIMATORS)
    bars = WideBars.of_panel(as_panel(data, how=how))
    names = usable_features(bars, features)
    n_rows, symbols = len(bars.index), tuple(bars.symbols)
    windows = _cut_windows(bars.index, *reach, warm_up_of(names), include_latest)
    panel = np.empty((n_rows, len(symbols), len(names)), dtype=np.float32)
    with np.errstate(over="ignore"):
        for column, name in enumerate(names):
            panel[:, :, column] = feature_array(bars, name)
    warn_unknown(bars, names, panel.transpose(0, 2, 1))
    bars_given = dict(data) if isinstance(data, Mapping) else data  # the caller's may grow
    more = {"bars": bars_given, "how": how, "volatility_estimator": volatility_estimator}
    if volatility_estimator != "close":
        check_ranges(bars, volatility_estimator)
        more["bar_volatilities"] = frozen(feature_array(bars, volatility_estimator))
    made = _assemble(panel, windows | more, symbols, names, bars.close, bars.index)
    if not include_latest:
        spans.check_coverage(made)
    return made if exogenous is None else with_exogenous(made, exogenous, include_latest)


def windows_of_features(
    features: pd.DataFrame,
    closes: pd.DataFrame,
    lookback: int | str | pd.Timedelta = 168,
    horizon: int | str | pd.Timedelta = 24,
    *,
    warm_up: int = 0,
    include_latest: bool = False,
) -> CrossAttentionData:
    """Prepare sliding windows from a table of your own features, and closes.

    Parameters
    ----------
    features : DataFrame
        Index ``close_time``, columns (``feature``, ``symbol``), every feature for every symbol;
        what each row holds must be known at its time. NaN where it is not.
    closes : wide DataFrame
        Closes on the same index, a column a symbol; NaN where there is no bar.
    lookback, horizon, include_latest
        As in :func:`crossattn.prepare_cross_attention_data`.
    warm_up : int
        Leading rows to leave out.

    Notes
    -----
    One copy in float32; the windows are views of it. Few known targets give no warning: see
    ``.coverage``.

    Built in chapter: Windows, splits and leaks.

    Examples
    --------
    >>> from crossattn import create_multi_asset_features, simulate_market
    >>> panel = simulate_market(n_assets=3, n_steps=100).panel
    >>> features = create_multi_asset_features(panel, ["log_return"])
    >>> market = features["log_return"].mean(axis=1)
    >>> for symbol in features["log_return"]:
    ...     features[("relative_return", symbol)] = features[("log_return", symbol)] - market
    >>> data = windows_of_features(features, panel["close"], lookback=8, horizon=1, warm_up=1)
    >>> data.X.shape, data.features
    ((91, 3, 8, 2), ('log_return', 'relative_return'))
    """
    reach = check_span("lookback", lookback), check_span("horizon", horizon)
    warm_up = check_int("warm_up", warm_up, at_least=0)
    check_bool("include_latest", include_latest)
    for name, table in (("features", features), ("closes", closes)):
        check_type(name, table, pd.DataFrame, "a DataFrame")
    if not isinstance(features.columns, pd.MultiIndex) or features.columns.nlevels != 2:
        raise InvalidInputError("features must have columns (feature, symbol)")
    given = features.columns.dropna()
    names, symbols = (tuple(given.unique(level)) for level in (0, 1))
    if not isinstance(features.index, pd.DatetimeIndex) or not features.index.equals(closes.index):
        raise InvalidInputError("closes must have the rows of features, dated by close_time")
    clock = check_times(features.index, "features", "close_time")
    check_same_names("closes: symbols", closes.columns, symbols)
    columns = pd.MultiIndex.from_product([names, symbols])
    if not features.columns.is_unique or set(features.columns) != set(columns):
        raise InvalidInputError("features must hold every feature once for every symbol")
    windows = _cut_windows(clock, *reach, warm_up, include_latest)
    panel = np.empty((len(features), len(symbols), len(names)), dtype=np.float32)
    cells = check_numbers("features", features.reindex(columns=columns))
    with np.errstate(over="ignore"):
        panel[:] = cells.reshape(-1, len(names), len(symbols)).transpose(0, 2, 1)
    prices = check_numbers("closes", closes[list(symbols)])
    if np.isinf(prices).any() or (prices <= 0).any():
        raise InvalidInputError("closes must be positive and finite; NaN where there is no bar")
    return _assemble(panel, windows, symbols, names, prices, clock)


def _cut_windows(clock, lookback, horizon, warm_up: int, include_latest: bool) -> dict:
    """Find where windows may end: after the warm-up, and before a known target."""
    rows, duration = len(clock), None if isinstance(horizon, int) else horizon
    target_rows = spans.rows_until_known(clock, horizon)
    n_known = int(np.searchsorted(target_rows, rows))
    if n_known == 0 and not include_latest:
        raise InvalidInputError(
            f"horizon must be shorter than the data ({rows} rows), got {horizon}"
        )
    lookback = spans.rows_within(clock, lookback)
    longest = horizon
    if duration is not None:
        longest = int((target_rows - np.arange(rows))[: max(n_known, 1)].max())
    first = warm_up + lookback - 1
    stop = rows if include_latest else n_known
    if first >= stop:
        raise InvalidInputError(
            f"data: {rows} rows are too few for lookback={lookback}, horizon={longest} and a "
            f"warm-up of {warm_up} bars; at least {first + 1 + rows - stop} are needed"
        )
    return {
        "ends": frozen(np.arange(first, stop)),
        "lookback": lookback,
        "horizon": longest,
        "target_rows": frozen(target_rows),
        "duration": duration,
    }


def _assemble(panel, windows: dict, symbols, names, closes, clock) -> CrossAttentionData:
    """Put features, targets and clock together; infinite features become NaN."""
    panel[np.isinf(panel)] = np.nan
    ends = spans.exit_rows(closes, windows["target_rows"], clock, windows["duration"])
    return CrossAttentionData(
        panel=frozen(panel),
        symbols=symbols,
        features=names,
        targets=frozen(spans.returns_until(closes, ends)),
        next_returns=frozen(spans.forward_returns(closes, 1)),
        closes=frozen(closes),
        clock=clock,
        **windows,
    )
