"""What can be asked of the simulator, checked before anything is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.simulate.shocks import Groups

MAX_PREDICTABILITY = 0.4
MAX_BARS = 50_000_000
MAX_LAG = 10_000

# Shorter paths are too short to hit an R² on: strengths are then right in expectation only.
SHORTEST_CALIBRATED = 100


@dataclass(frozen=True)
class MarketOptions:
    """A checked request for a market; see :func:`crossattn.simulate_market` for each field."""

    scenario: str
    n_assets: int
    n_steps: int
    predictability: float
    seed: int
    correlation: float = 0.25
    max_lag: int = 6
    leaders_per_follower: int = 2
    tail: float = 5.0
    volatility: str = "stochastic"
    bar_volatility: float = 0.006
    n_sectors: int = 0
    bar: str = "1h"
    start: str = "2022-01-01"
    change: str = "graph"
    regime_durations: tuple[int, int] = (400, 400)
    regime_volatility: float = 1.8
    crisis_correlation: float = 0.7
    threshold: float = 1.5
    gate_share: float = 0.2

    def __post_init__(self) -> None:
        self._integer("n_assets", 2)
        self._integer("n_steps", 2)
        self._integer("seed", 0)
        self._integer("max_lag", 1)
        self._integer("leaders_per_follower", 1)
        self._integer("n_sectors", 0)
        self._number("predictability", 0.0, MAX_PREDICTABILITY, low_open=True)
        self._number("correlation", 0.0, 0.9)
        self._number("crisis_correlation", 0.0, 0.9)
        self._number("tail", 2.0, math.inf, low_open=True)
        self._number("bar_volatility", 0.0, 0.1, low_open=True)
        self._number("regime_volatility", 0.0, 10.0, low_open=True)
        self._number("threshold", 0.0, 10.0)
        self._number("gate_share", 0.0, 1.0, low_open=True)
        self._choice("volatility", "stochastic", "garch", "constant")
        self._choice("change", "graph", "sign")
        if self.n_assets * self.n_steps > MAX_BARS:
            raise InvalidInputError(
                f"n_assets times n_steps must be at most {MAX_BARS:,} bars, got "
                f"{self.n_assets:,} x {self.n_steps:,}"
            )
        if self.max_lag > MAX_LAG:
            raise InvalidInputError(f"max_lag must be at most {MAX_LAG:,}, got {self.max_lag:,}")
        if self.n_sectors > self.n_assets:
            raise InvalidInputError(
                f"n_sectors must be at most n_assets, got {self.n_sectors} > {self.n_assets}"
            )
        if self.leaders_per_follower >= self.n_assets:
            raise InvalidInputError(
                f"leaders_per_follower must be below n_assets, got {self.leaders_per_follower} "
                f"for {self.n_assets} assets"
            )
        self._durations()
        self.opens()

    @cached_property
    def groups(self) -> Groups:
        """Sector and market of each asset; a third as many sectors as assets by default."""
        return Groups.of(self.n_assets, self.n_sectors or max(1, self.n_assets // 3))

    @property
    def symbols(self) -> list[str]:
        """A00, A01, ..."""
        width = max(2, len(str(self.n_assets - 1)))
        return [f"A{i:0{width}d}" for i in range(self.n_assets)]

    def opens(self) -> pd.DatetimeIndex:
        """Return the open times of the bars (T,), in UTC."""
        try:
            step = pd.Timedelta(self.bar)
            start = pd.Timestamp(self.start)
            if not step > pd.Timedelta(0) or start is pd.NaT:
                raise ValueError("bars need a length above zero and a start")
            start = start.tz_localize("UTC") if start.tz is None else start.tz_convert("UTC")
            return pd.date_range(start, periods=self.n_steps, freq=step)
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidInputError(
                f"bar and start must be a duration and a date, got {self.bar!r} and "
                f"{self.start!r} for {self.n_steps} bars ({error})"
            ) from None

    def _integer(self, name: str, low: int) -> None:
        value = getattr(self, name)
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < low:
            raise InvalidInputError(f"{name} must be an integer of at least {low}, got {value!r}")
        object.__setattr__(self, name, int(value))

    def _number(self, name: str, low: float, high: float, *, low_open: bool = False) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, (int, float, np.integer, np.floating))
        if (
            isinstance(value, bool)
            or not is_number
            or not low <= value <= high
            or (low_open and value == low)
        ):
            bound = "above" if low_open else "at least"
            raise InvalidInputError(
                f"{name} must be {bound} {low:g} and at most {high:g}, got {value!r}"
            )

    def _choice(self, name: str, *allowed: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, str) or value not in allowed:
            raise InvalidInputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")

    def _durations(self) -> None:
        value = self.regime_durations
        try:
            good = len(value) == 2 and all(mean >= 1 and math.isfinite(mean) for mean in value)
        except (TypeError, ValueError):
            good = False
        if not good:
            raise InvalidInputError(
                f"regime_durations must be two means of at least 1 bar, got {value!r}"
            )


_SPECIAL = {
    "factor": {"correlation": 0.6},
    "asynchronous": {"correlation": 0.6},
    "crisis": {"regime_durations": (1500, 300), "regime_volatility": 2.5},
}
_REQUIRED = ("scenario", "n_assets", "n_steps", "predictability", "seed")


def check_options(
    scenario: str, n_assets: int, n_steps: int, predictability: float, seed: int, options: dict
) -> MarketOptions:
    """Return the request with the scenario's own defaults, or say which part of it cannot be."""
    known = [f.name for f in fields(MarketOptions) if f.name not in _REQUIRED]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InvalidInputError(
            f"unknown option {unknown[0]!r}; a simulated market takes {', '.join(known)}"
        )
    defaults = dict(_SPECIAL.get(scenario, {}))
    pair = isinstance(n_assets, (int, np.integer)) and n_assets == 2
    if pair and "leaders_per_follower" not in options:
        defaults["leaders_per_follower"] = 1
    chosen = {**defaults, **options}
    return MarketOptions(scenario, n_assets, n_steps, predictability, seed, **chosen)
