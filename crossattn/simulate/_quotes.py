"""Volume, bars around given returns, and quotes that come late (stale prices)."""

import numpy as np
import pandas as pd

from crossattn.data.frame import TIME_UNIT, Frame
from crossattn.errors import InvalidInputError
from crossattn.simulate.dynamics import SHORTEST_CALIBRATED

_MAX_ROUNDS = 100
_NEWS_RATE = 0.05
_VOLUME_NOISE = 0.35
_VOLUME_OF_SHOCK = 0.25


def draw_news(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return sizes of news (N, T), 0 in most bars, that move volume and volatility of their bar."""
    return rng.exponential(1.0, shape) * (rng.random(shape) < _NEWS_RATE)


def draw_volume(
    rng: np.random.Generator, log_volatility: np.ndarray, shocks: np.ndarray, news: np.ndarray
) -> np.ndarray:
    """Return traded volume (N, T): more in volatile bars, in large moves, and on news."""
    level = rng.uniform(np.log(1e3), np.log(1e5), (len(shocks), 1))
    noise = _VOLUME_NOISE * rng.standard_normal(shocks.shape)
    logs = level + log_volatility + _VOLUME_OF_SHOCK * np.abs(shocks) + 0.8 * news + noise
    return np.exp(logs)


def stale_quotes(
    early: np.ndarray, late: np.ndarray, is_stale: np.ndarray, staleness: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what is quoted of latent moves when the last print of some assets precedes the close.

    The first array (N, T) holds returns, the second the part of each move that is not quoted yet.

    ``early`` and ``late`` (N, T) are independent moves, as if each filled the bar: its move is the
    first times the root of ``1 - staleness`` plus the second times the root of ``staleness`` (N,),
    the share of a bar's variance that comes after the last print. Where ``is_stale`` (N,), the late
    part is shown in the next bar.
    """
    share = np.clip(staleness, 0.0, 0.98)[:, None]
    before = np.sqrt(1 - share) * early
    after = np.sqrt(share) * late
    unseen = np.where(is_stale[:, None], after, 0.0)
    returns = before + after - unseen
    returns[:, 1:] += unseen[:, :-1]
    return returns, unseen


def calibrated_quotes(
    early: np.ndarray, late: np.ndarray, is_stale: np.ndarray, predictability: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return stale quotes whose unseen part is ``predictability`` of the market's variance.

    Each stale asset has the same share; on very short paths it is right in expectation only.
    """
    staleness = np.full(len(early), predictability / is_stale.mean())
    returns, unseen = stale_quotes(early, late, is_stale, staleness)
    if early.shape[1] < SHORTEST_CALIBRATED:
        return returns, unseen
    for _ in range(_MAX_ROUNDS):
        total = returns[:, 1:].var(axis=1)
        wanted = predictability * total.sum() / total[is_stale].sum()
        ratio = unseen[is_stale, :-1].var(axis=1) / total[is_stale]
        if np.abs(ratio / wanted - 1).max() < 1e-4:
            return returns, unseen
        staleness[is_stale] *= wanted / ratio
        staleness[~is_stale] = staleness[is_stale].mean()
        returns, unseen = stale_quotes(early, late, is_stale, staleness)
    raise InvalidInputError(f"predictability {predictability} is too large for stale quotes")


def bars_from_returns(
    rng: np.random.Generator,
    returns: np.ndarray,
    volatility: np.ndarray,
    volume: np.ndarray,
    opens: pd.DatetimeIndex,
    symbols: list[str],
) -> dict[str, Frame]:
    """Return bars whose closes make ``returns`` and whose highs and lows are those of bridges.

    ``returns``, ``volatility`` (of a log return) and ``volume`` are (N, T). A path from open to
    close is a Brownian bridge; its maximum has a closed form, so one uniform number draws it.
    """
    first = np.exp(rng.uniform(np.log(5), np.log(500), (len(symbols), 1)))
    close = first * np.exp(np.cumsum(returns, axis=1))
    open_ = np.concatenate([first, close[:, :-1]], axis=1)
    reach = [
        np.sqrt(returns**2 - 2 * volatility**2 * np.log1p(-rng.random(returns.shape)))
        for _ in ("up", "down")
    ]
    high = np.maximum(open_ * np.exp((returns + reach[0]) / 2), np.maximum(open_, close))
    low = np.minimum(open_ * np.exp((returns - reach[1]) / 2), np.minimum(open_, close))
    index = opens.as_unit(TIME_UNIT).rename("time")
    fields = {"open": open_, "high": high, "low": low, "close": close, "volume": volume}
    return {
        symbol: pd.DataFrame({name: values[i] for name, values in fields.items()}, index=index)
        for i, symbol in enumerate(symbols)
    }
