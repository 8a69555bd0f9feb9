"""Registry of features: the fields each needs, its warm-up in bars, and how it is computed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.features.indicators import compute_macd, compute_rsi, relative_volume
from crossattn.features.wide_bars import WideBars

VOLATILITY_HALF_LIFE = 24
MOMENTUM_BARS = 24
RELATIVE_VOLUME_WARM_UP = 20


@dataclass(frozen=True)
class FeatureSpec:
    """Specification of one feature: a causal function from wide bars to a ``(T, N)`` array."""

    name: str
    meaning: str  #: one line, with the unit
    #: number of bars at the start of an asset's history whose value is missing or not yet settled
    warm_up: int
    needs: tuple[str, ...]  #: fields beyond the close that the source must provide
    #: ``WideBars -> ndarray (T, N)``; row t may use rows up to t only
    compute: Callable[[WideBars], np.ndarray]
    every_row: bool = False  #: known in every row, also where the asset has no bar


def _log_ratio(bars: WideBars, above: str, below: str) -> np.ndarray:
    return np.log(bars.field(above)) - np.log(bars.field(below))


def _overnight_gap(bars: WideBars) -> np.ndarray:
    return np.log(bars.field("open")) - bars.before(bars.log_close)


def _parkinson(bars: WideBars) -> np.ndarray:
    squared_range = _log_ratio(bars, "high", "low") ** 2
    return np.sqrt(_overnight_gap(bars) ** 2 + squared_range / (4 * np.log(2)))


def _garman_klass(bars: WideBars) -> np.ndarray:
    body, squared_range = _log_ratio(bars, "close", "open"), _log_ratio(bars, "high", "low") ** 2
    within = squared_range / 2 - (2 * np.log(2) - 1) * body**2  # >= 0, as the range holds the body
    return np.sqrt(_overnight_gap(bars) ** 2 + within)


def _momentum(bars: WideBars) -> np.ndarray:
    momentum = np.full_like(bars.close, np.nan)
    gaps = np.cumsum(bars.across_gap, axis=0)
    for column in range(bars.close.shape[1]):
        own = np.flatnonzero(bars.present[:, column])
        now, then = own[MOMENTUM_BARS:], own[:-MOMENTUM_BARS]
        change = bars.log_close[now, column] - bars.log_close[then, column]
        unbroken = gaps[now, column] == gaps[then, column]
        momentum[now, column] = np.where(unbroken, change, np.nan)
    return momentum


def _relative_volume(bars: WideBars) -> np.ndarray:
    return relative_volume(pd.DataFrame(bars.field("volume"))).to_numpy()


def _volatility(bars: WideBars) -> np.ndarray:
    squares = pd.DataFrame(bars.log_return**2)
    average = squares.ewm(
        halflife=VOLATILITY_HALF_LIFE, min_periods=VOLATILITY_HALF_LIFE, ignore_na=True
    ).mean()
    return np.sqrt(average.to_numpy())


def _rsi(bars: WideBars) -> np.ndarray:
    return compute_rsi(pd.DataFrame(bars.close)).to_numpy()


def _macd(bars: WideBars) -> np.ndarray:
    line, _, _ = compute_macd(pd.DataFrame(bars.close))
    return line.to_numpy() / bars.close


def _staleness(bars: WideBars) -> np.ndarray:
    rows = np.arange(len(bars.index), dtype=np.float64)[:, None]
    return np.where(bars.last_own < 0, np.nan, rows - bars.last_own)


def _clock(cycle: Callable[[pd.DatetimeIndex], np.ndarray], wave: Callable) -> Callable:
    def compute(bars: WideBars) -> np.ndarray:
        value = wave(2 * np.pi * cycle(bars.index))
        return np.repeat(value[:, None], bars.close.shape[1], axis=1)

    return compute


def _day_fraction(index: pd.DatetimeIndex) -> np.ndarray:
    return ((index - index.normalize()) / pd.Timedelta(days=1)).to_numpy()


def _week_fraction(index: pd.DatetimeIndex) -> np.ndarray:
    return index.day_of_week.to_numpy() / 7


_SPECS = (
    FeatureSpec(
        "log_return", "log of close over the previous bar's close", 1, (), lambda b: b.log_return
    ),
    FeatureSpec(
        "intraday_return",
        "log of close over the bar's own open",
        0,
        ("open",),
        lambda b: _log_ratio(b, "close", "open"),
    ),
    FeatureSpec(
        "range", "log of high over low", 0, ("high", "low"), lambda b: _log_ratio(b, "high", "low")
    ),
    FeatureSpec(
        "relative_volume",
        "log volume minus its exponentially weighted mean (half-life 20 bars) up to the last bar",
        RELATIVE_VOLUME_WARM_UP,
        ("volume",),
        _relative_volume,
    ),
    FeatureSpec(
        "volatility",
        "root of the exponentially weighted mean square of log returns (half-life 24), per bar",
        VOLATILITY_HALF_LIFE,
        (),
        _volatility,
    ),
    FeatureSpec("rsi", "relative strength index over 14 changes, 0 to 100", 14, (), _rsi),
    FeatureSpec("macd", "MACD line (12, 26) as a fraction of the close", 33, (), _macd),
    FeatureSpec(
        "momentum", "log of close over the close 24 bars before", MOMENTUM_BARS, (), _momentum
    ),
    FeatureSpec(
        "overnight_gap",
        "log of the bar's open over the previous bar's close",
        1,
        ("open",),
        _overnight_gap,
    ),
    FeatureSpec(
        "parkinson",
        "volatility of the bar: root of squared gap from the last close + range² / (4 log 2)",
        1,
        ("open", "high", "low"),
        _parkinson,
    ),
    FeatureSpec(
        "garman_klass",
        "the same, of squared gap + range² / 2 - (2 log 2 - 1) (log of close over open)²",
        1,
        ("open", "high", "low"),
        _garman_klass,
    ),
    FeatureSpec(
        "staleness", "bars of the clock since the asset's last own bar", 0, (), _staleness, True
    ),
    FeatureSpec(
        "hour_sin",
        "sine of the UTC time of day at the close",
        0,
        (),
        _clock(_day_fraction, np.sin),
        True,
    ),
    FeatureSpec(
        "hour_cos",
        "cosine of the UTC time of day at the close",
        0,
        (),
        _clock(_day_fraction, np.cos),
        True,
    ),
    FeatureSpec(
        "weekday_sin",
        "sine of the UTC weekday at the close",
        0,
        (),
        _clock(_week_fraction, np.sin),
        True,
    ),
    FeatureSpec(
        "weekday_cos",
        "cosine of the UTC weekday at the close",
        0,
        (),
        _clock(_week_fraction, np.cos),
        True,
    ),
)

#: every feature by name: its formula, unit and warm-up.
FEATURES: dict[str, FeatureSpec] = {spec.name: spec for spec in _SPECS}

#: names that stand for several features, such as ``"calendar"``.
FEATURE_GROUPS: dict[str, tuple[str, ...]] = {
    "calendar": ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")
}


def resolve_features(features: str | Sequence[str]) -> tuple[str, ...]:
    """Validate feature names and expand groups (``"calendar"``), keeping the order.

    Examples
    --------
    >>> resolve_features(["log_return", "calendar"])
    ('log_return', 'hour_sin', 'hour_cos', 'weekday_sin', 'weekday_cos')
    """
    if isinstance(features, str):
        features = (features,)
    try:
        asked = list(features)
    except TypeError:
        raise InvalidInputError(f"features must be a sequence of names, got {features!r}") from None
    unknown = [
        name
        for name in asked
        if not isinstance(name, str) or (name not in FEATURES and name not in FEATURE_GROUPS)
    ]
    if unknown:
        known = ", ".join([*FEATURES, *FEATURE_GROUPS])
        raise InvalidInputError(f"features: unknown {unknown[0]!r}; known are {known}")
    names = [part for name in asked for part in FEATURE_GROUPS.get(name, (name,))]
    if not names:
        raise InvalidInputError("features must name at least one feature, got none")
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise InvalidInputError(f"features: {repeated[0]!r} is named more than once")
    return tuple(names)


def warm_up_of(features: str | Sequence[str]) -> int:
    """Return the number of leading bars after which every one of `features` has settled.

    Examples
    --------
    >>> warm_up_of(["log_return", "rsi"])
    14
    """
    return max(FEATURES[name].warm_up for name in resolve_features(features))
