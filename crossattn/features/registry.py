"""Registry of features: the fields each needs, its warm-up in bars, and how it is computed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossattn._validation import check_names
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


#: every feature by name: its formula, unit and warm-up.
FEATURES: dict[str, FeatureSpec] = {}


def _feature(warm_up: int, *needs: str, every_row: bool = False) -> Callable:
    """Enter a function in the registry by its name; its docstring is the feature's meaning."""

    def register(compute: Callable[[WideBars], np.ndarray]) -> Callable[[WideBars], np.ndarray]:
        name = compute.__name__.strip("_")
        FEATURES[name] = FeatureSpec(name, compute.__doc__, warm_up, needs, compute, every_row)
        return compute

    return register


def _log_ratio(bars: WideBars, above: str, below: str) -> np.ndarray:
    return np.log(bars.field(above)) - np.log(bars.field(below))


@_feature(1)
def _log_return(bars: WideBars) -> np.ndarray:
    """log of close over the previous bar's close"""
    return bars.log_return


@_feature(0, "open")
def _intraday_return(bars: WideBars) -> np.ndarray:
    """log of close over the bar's own open"""
    return _log_ratio(bars, "close", "open")


@_feature(0, "high", "low")
def _range(bars: WideBars) -> np.ndarray:
    """log of high over low"""
    return _log_ratio(bars, "high", "low")


@_feature(RELATIVE_VOLUME_WARM_UP, "volume")
def _relative_volume(bars: WideBars) -> np.ndarray:
    """log volume minus its exponentially weighted mean (half-life 20 bars) up to the last bar"""
    return relative_volume(pd.DataFrame(bars.field("volume"))).to_numpy()


@_feature(VOLATILITY_HALF_LIFE)
def _volatility(bars: WideBars) -> np.ndarray:
    """root of the exponentially weighted mean square of log returns (half-life 24), per bar"""
    squares, span = pd.DataFrame(bars.log_return**2), VOLATILITY_HALF_LIFE
    average = squares.ewm(halflife=span, min_periods=span, ignore_na=True).mean()
    return np.sqrt(average.to_numpy())


@_feature(14)
def _rsi(bars: WideBars) -> np.ndarray:
    """relative strength index over 14 changes, 0 to 100"""
    return compute_rsi(pd.DataFrame(bars.close)).to_numpy()


@_feature(33)
def _macd(bars: WideBars) -> np.ndarray:
    """MACD line (12, 26) as a fraction of the close"""
    return compute_macd(pd.DataFrame(bars.close))[0].to_numpy() / bars.close


@_feature(MOMENTUM_BARS)
def _momentum(bars: WideBars) -> np.ndarray:
    """log of close over the close 24 bars before"""
    momentum = np.full_like(bars.close, np.nan)
    gaps = np.cumsum(bars.across_gap, axis=0)
    for column in range(bars.close.shape[1]):
        own = np.flatnonzero(bars.present[:, column])
        now, then = own[MOMENTUM_BARS:], own[:-MOMENTUM_BARS]
        change = bars.log_close[now, column] - bars.log_close[then, column]
        unbroken = gaps[now, column] == gaps[then, column]
        momentum[now, column] = np.where(unbroken, change, np.nan)
    return momentum


@_feature(1, "open")
def _overnight_gap(bars: WideBars) -> np.ndarray:
    """log of the bar's open over the previous bar's close"""
    return np.log(bars.field("open")) - bars.before(bars.log_close)


@_feature(1, "open", "high", "low")
def _parkinson(bars: WideBars) -> np.ndarray:
    """volatility of the bar: root of squared gap from the last close + range² / (4 log 2)"""
    return np.sqrt(_overnight_gap(bars) ** 2 + _range(bars) ** 2 / (4 * np.log(2)))


@_feature(1, "open", "high", "low")
def _garman_klass(bars: WideBars) -> np.ndarray:
    """the same, of squared gap + range² / 2 - (2 log 2 - 1) (log of close over open)²"""
    body, squared_range = _intraday_return(bars), _range(bars) ** 2
    within = squared_range / 2 - (2 * np.log(2) - 1) * body**2  # >= 0, as the range holds the body
    return np.sqrt(_overnight_gap(bars) ** 2 + within)


@_feature(0, every_row=True)
def _staleness(bars: WideBars) -> np.ndarray:
    """bars of the clock since the asset's last own bar"""
    rows = np.arange(len(bars.index), dtype=np.float64)[:, None]
    return np.where(bars.last_own < 0, np.nan, rows - bars.last_own)


def _add_clock(name: str, meaning: str, wave: Callable, cycle: Callable) -> None:
    def compute(bars: WideBars) -> np.ndarray:
        value = wave(2 * np.pi * cycle(bars.index).to_numpy())
        return np.repeat(value[:, None], bars.close.shape[1], axis=1)

    compute.__name__, compute.__doc__ = name, f"{meaning} at the close"
    _feature(0, every_row=True)(compute)


for _name, _meaning, _cycle in (
    ("hour", "UTC time of day", lambda index: (index - index.normalize()) / pd.Timedelta(days=1)),
    ("weekday", "UTC weekday", lambda index: index.day_of_week / 7),
):
    _add_clock(f"{_name}_sin", f"sine of the {_meaning}", np.sin, _cycle)
    _add_clock(f"{_name}_cos", f"cosine of the {_meaning}", np.cos, _cycle)

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
    asked = (features,) if isinstance(features, str) else check_names("features", features)
    if unknown := [name for name in asked if name not in FEATURES | FEATURE_GROUPS]:
        names = ", ".join([*FEATURES, *FEATURE_GROUPS])
        raise InvalidInputError(f"features: unknown {unknown[0]!r}; known are {names}")
    names = [part for name in asked for part in FEATURE_GROUPS.get(name, (name,))]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InvalidInputError(f"features: {repeated[0]!r} is named more than once")
    return tuple(names)


def warm_up_of(features: str | Sequence[str]) -> int:
    """Return the number of leading bars after which every one of `features` has settled."""
    return max(FEATURES[name].warm_up for name in resolve_features(features))
