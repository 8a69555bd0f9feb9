"""Contribution of each source to each forecast, for any model: reported by it or by ablation.

Built in chapter: Attention is not explanation.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from crossattn._validation import (
    check_array,
    check_choice,
    check_float,
    check_int,
    check_names,
    check_same_names,
)
from crossattn.evidence._models import (
    RETURN_CHANNEL,
    channels_of,
    contribution_batches,
    forecasts_of,
    symbols_of,
)
from crossattn.windows.checks import check_windows
from crossattn.windows.dataset import CrossAttentionData

ABLATED_LAGS = 8
LAG_WINDOWS = 400  # windows on which single lags are ablated
STRETCHES = 4  # parts of the data whose windows name lag and channel
NAMING_CELLS = 1e9  # numbers that may be read for it, which decides how many windows that are
NAMING_WINDOWS = (100, 2000)  # least and most of them


@dataclass(frozen=True)
class Contributions:
    """Contributions of sources to forecasts, window by window, and the token that carries each."""

    #: (n, n_followers, n_sources): ``[k, i, j]``: what source j adds to the forecast of follower i
    #: in window k, over all lags and channels, in units of the target. An asset is a source of its
    #: own forecasts too
    total: np.ndarray
    #: (n_followers, n_sources): lag with the largest share of the
    #: contribution; 1 is the newest known bar
    lag: np.ndarray
    #: (n_followers, n_sources): channel with the largest share at that lag;
    #: ``"return"`` where the model has no others
    channel: np.ndarray
    #: (n_followers, n_sources): mean change of the forecast for one standard deviation of that
    #: channel at that lag
    response: np.ndarray
    symbols: tuple[str, ...]  #: followers, along their axis
    sources: tuple[str, ...]  #: along their axis
    timestamps: pd.DatetimeIndex | None = None  #: (n,): of the windows


def measure_contributions(
    model, data: CrossAttentionData, *, followers: Sequence[str] | None = None
) -> Contributions:
    """Split a model's forecasts into the contributions of their sources.

    Parameters
    ----------
    model : object
        A forecaster, a lag model or a baseline with ``contributions(data)`` reports its own. Any
        other model with ``predict(data)``, and networks of other presets, are ablated: a source's
        past is replaced by its mean over ``data`` and the forecasts are compared.
    data : CrossAttentionData
        Windows to measure on.
    followers : sequence of str, optional
        Assets whose forecasts are split; all by default.

    Raises
    ------
    InvalidInputError
        The model neither splits its forecasts nor predicts returns of shape (n, n_assets).

    Notes
    -----
    The share of a (lag, channel) is the covariance of what it adds with all that the source adds,
    over the variance of the latter: shares sum to 1, and parts that cancel each other cancel here
    too. They are taken on at most 2000 windows, in four stretches.

    Contributions of ablated sources that act only together do not add up to the forecast. Ablation
    costs one prediction per source, and one per source and lag (1 to 8) on a thinned sample.
    """
    check_windows("data", data)
    symbols = symbols_of(model, data)
    followers = symbols if followers is None else check_names("followers", followers)
    for name in followers:
        check_choice("followers", name, symbols)
    return next(measure_in_groups(model, data, [followers]))


def measure_in_groups(
    model, data: CrossAttentionData, groups: Iterable[Sequence[str]]
) -> Iterator[Contributions]:
    """Measure the contributions to one group of followers after another; read the data once."""
    symbols = symbols_of(model, data)
    check_same_names("data: symbols", data.symbols, symbols)
    data = data.select(symbols=symbols)
    read = model.reading(data) if hasattr(model, "reading") else data
    channels = channels_of(model, data, read)
    for names in map(tuple, groups):
        chosen = np.array([symbols.index(name) for name in names])
        if hasattr(model, "source_contributions"):  # a shorter way to the same sums
            total = model.source_contributions(read, chosen)
        else:
            if (batches := contribution_batches(model, read, chosen)) is None:
                found = _ablate(model, data, channels, chosen)
                yield Contributions(*found, names, symbols, data.timestamps)
                continue
            # summed over lags batch by batch, so that (n, N, S, L) is never held
            total = np.concatenate([part.sum(axis=(3, 4)) for part in batches])
        # baselines know nothing of exogenous series
        sources = getattr(model, "sources_", data.sources)[: total.shape[2]]
        edges = _name_edges(model, data, read, channels, chosen)
        yield Contributions(total, *edges, names, sources, data.timestamps)


def without_source(data: CrossAttentionData, source: int, rows=slice(None)) -> CrossAttentionData:
    """Return the data with one asset's features replaced by their means, in ``rows``."""
    check_windows("data", data)
    check_float("source", check_int("source", source, at_least=0), below=len(data.symbols))
    panel = np.array(data.panel)
    panel[rows, source] = pd.DataFrame(panel[:, source]).mean()  # NaN where nothing is known
    return replace(data, panel=panel)


def _name_edges(
    model, data: CrossAttentionData, read, channels: tuple, followers: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Lag, channel and response of each contribution, each (F, S), from moments over windows."""
    names, values = channels  # values (n_rows, S, C), NaN where there is no bar
    moments: dict[str, np.ndarray] = {}
    count = 0
    for stretch in _stretches(data, len(data.symbols) * values[0].size):
        ends = data.ends[stretch]
        for part in contribution_batches(model, read[stretch], followers, by_channel=True):
            part = np.asarray(part, float)  # (b, F, S, L, C)
            total = part.sum(axis=(3, 4))
            rows, ends = ends[: len(part), None] - np.arange(part.shape[3]), ends[len(part) :]
            token = values[rows].transpose(0, 2, 1, 3)  # (b, S, L, C)
            seen = np.isfinite(token)
            token = np.where(seen, token, 0.0)
            terms = {
                "part": part.sum(axis=0),
                "total": total.sum(axis=0),
                "cross": np.einsum("bfslc,bfs->fslc", part, total),
                "product": np.einsum("bfslc,bslc->fslc", part, token),
                "token": token.sum(axis=0),
                "energy": (token**2).sum(axis=0),
                "seen": np.maximum(seen.sum(axis=0), 1e-9),
            }
            moments = {name: moments.get(name, 0.0) + term for name, term in terms.items()}
            count += len(part)
    part, total = moments["part"] / count, moments["total"] / count
    share = moments["cross"] / count - part * total[..., None, None]  # times the same variance
    lag = share.sum(axis=3).argmax(axis=2)
    at_lag = np.take_along_axis(share, lag[:, :, None, None], axis=2)[:, :, 0]
    channel = at_lag.argmax(axis=2)
    f, s = np.ogrid[: len(lag), : lag.shape[1]]
    mean = moments["token"] / count
    varies = moments["energy"] / count - mean**2
    slope = (moments["product"] / count - part * mean)[f, s, lag, channel]
    slope = slope / np.where(varies > 1e-30, varies, np.inf)[s, lag, channel]
    mean = moments["token"] / moments["seen"]  # a bar that does not exist has no deviation
    spread = np.sqrt(np.maximum(moments["energy"] / moments["seen"] - mean**2, 0.0))
    return lag + 1, names[channel], slope * spread[s, lag, channel]


def _stretches(data: CrossAttentionData, cells: int) -> list[slice]:
    """Windows that name the edges: all of them, or stretches spread over the data."""
    least, most = NAMING_WINDOWS
    length = int(np.clip(NAMING_CELLS / (cells * min(data.lookback, 24)), least, most)) // STRETCHES
    if STRETCHES * length >= len(data):
        return [slice(None)]
    starts = np.linspace(0, len(data) - length, STRETCHES).astype(int)
    return [slice(start, start + length) for start in starts]


def _ablate(
    model, data: CrossAttentionData, channels: tuple, followers: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Total, lag, channel and response of every source by comparing forecasts without it."""
    n_assets, n_lags = len(data.symbols), min(ABLATED_LAGS, data.lookback)
    base = check_array("model: forecasts", forecasts_of(model, data), (len(data), n_assets))
    total = np.empty((len(data), len(followers), n_assets))
    for source in range(n_assets):
        without = forecasts_of(model, without_source(data, source))
        total[:, :, source] = (base - without)[:, followers]
    # windows a lookback apart: a row changed for one of them is not inside the next one
    step = max(data.lookback, len(data) // LAG_WINDOWS)
    thinned, base = replace(data, ends=data.ends[::step]), base[::step]
    _, values = channels
    returns = np.nan_to_num(values[..., 0])
    size, slope = np.zeros((2, len(followers), n_assets, n_lags))
    for source in range(n_assets):
        for lag in range(n_lags):
            rows = thinned.ends - lag
            without = forecasts_of(model, without_source(thinned, source, rows))
            added = (base - without)[:, followers]  # (n', F)
            lagged = returns[rows, source]
            size[:, source, lag] = (added**2).mean(axis=0)
            slope[:, source, lag] = lagged @ added / max(float(lagged @ lagged), 1e-300)
    lag = size.argmax(axis=2)
    response = np.take_along_axis(slope, lag[..., None], axis=2)[..., 0]
    spread = np.nan_to_num(np.nanstd(values[data.ends, :, 0], axis=0))
    return total, lag + 1, np.full(lag.shape, RETURN_CHANNEL), response * spread
