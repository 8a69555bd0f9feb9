"""Fitted parts of a forecaster, mixed by weights: forecasts and what each token adds to them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from crossattn.tokens.channels import TokenIndex, TokenSeries
from crossattn.tokens.content import ContentPart
from crossattn.tokens.drift import Calendar
from crossattn.tokens.linear_map import LinearMap, running_sum
from crossattn.tokens.varying import VaryingPart, lagged_at

CHUNK_CELLS = 20_000_000  # numbers of one array of coefficients held at a time


@dataclass(frozen=True)
class Mixture:
    """Static, varying and content part with their weights in the forecast."""

    static: LinearMap  #: weighted sum of all static maps, over the whole horizon
    weights: dict[str, float]  #: of every part in the mix
    drift: np.ndarray  #: (n_assets,): forecast without any token, on average over the calendar
    calendar: Calendar  #: how that differs by hour and weekday
    centre: np.ndarray  #: (n_tokens,): mean of every token on training windows
    spread: np.ndarray  #: (n_tokens,): its standard deviation
    shape: tuple[int, int, int]  #: (n_assets, n_sources, n_lags)
    channels: tuple[str, ...]  #: different names of the channels, in order
    bars_ahead: int  #: bars of the horizon over which next-bar coefficients are added up
    varying: VaryingPart | None = None  #: None where its weight is 0
    content: ContentPart | None = None  #: None where its weight is 0
    is_log: bool = False  #: a volatility: the forecast is the exponential of what the tokens sum to

    def forecast(self, series: TokenSeries, rows: np.ndarray) -> np.ndarray:
        """Return forecasts ``(n, n_assets)`` at some rows, also where an asset has no bar."""
        out = self.drift + self.calendar.at(series.hour[rows], series.weekday[rows])
        out = out + self.without_drift(series, rows)
        return np.exp(out) if self.is_log else out

    def without_drift(self, series: TokenSeries, rows: np.ndarray) -> np.ndarray:
        """Return what the tokens add to the forecasts at some rows, ``(n, n_assets)``."""
        out = self.static.forecast(series.index, rows)
        if self.varying is not None:
            out += self.weights["varying"] * self.varying.forecast(series, rows, self.bars_ahead)
        if self.content is not None:
            out += self.weights["content"] * self.content.forecast(series, rows)
        return out

    def intercept(self, hour: np.ndarray, weekday: np.ndarray) -> np.ndarray:
        """Return drift, calendar and what centring the tokens leaves, ``(n, n_assets)``."""
        level = self.drift + self.static.offset + self.static.coefficient @ self.centre
        return level + self.calendar.at(hour, weekday)

    def contribution_batches(
        self, series: TokenSeries, rows: np.ndarray, by_channel: bool, followers: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield ``(b, F, S, L)`` or ``(..., C)`` contributions and their places in ``rows``."""
        n_assets, n_sources, n_lags = self.shape
        chosen = np.arange(n_assets) if followers is None else np.asarray(followers)
        index, moving_at = series.index, self._moving_coefficients(series, chosen)
        n_channels = len(self.channels) if by_channel else 1
        names = np.array([self.channels.index(channel.name) for channel in index.channels])
        channel = names[index.channel] if by_channel else np.zeros_like(index.channel)
        token_places = index.source, index.lag - 1, channel
        cells = np.ravel_multi_index(token_places, (n_sources, n_lags, n_channels))
        for place in self._places(len(rows), len(chosen) * n_channels / n_assets):
            here = rows[place]
            out = np.zeros((len(here), len(chosen), n_sources, n_lags, n_channels))
            if self.varying is not None or self.content is not None:
                returns = lagged_at(series.returns[:, :n_assets], here, n_lags)[:, None]
                out[:, :, :n_assets, :, 0] += moving_at(here) * returns  # (b, F|1, N, L) each
            self._add_static(out, index, here, chosen, cells)
            yield (out if by_channel else out[..., 0]), place

    def source_contributions(
        self, series: TokenSeries, rows: np.ndarray, followers: np.ndarray
    ) -> np.ndarray:
        """Return what sources add to forecasts over all lags and channels, ``(n, F, S)``."""
        n_assets, n_sources, n_lags = self.shape
        out = np.zeros((len(rows), len(followers), n_sources))
        if self.varying is not None:
            moved = self.varying.by_source(series, rows, followers, self.bars_ahead)
            out[..., :n_assets] += self.weights["varying"] * moved
        if self.content is not None:
            features = self.content.inputs(series)[1]
            for place in self._places(len(rows), len(followers) / n_assets):
                pulls = self.content.coefficients(features, rows[place], followers)
                returns = lagged_at(series.returns[:, :n_assets], rows[place], n_lags)
                moved = np.einsum("bfsl,bsl->bfs", pulls, returns)
                out[place, :, :n_assets] += self.weights["content"] * moved
        self._add_static(out, series.index, rows, followers, series.index.source)
        return out

    def coefficient_batches(
        self, series: TokenSeries, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield coefficients of returns and the pull of all channels, ``(b, N, S, L)``, and rows.

        The pull of a (source, lag) is how much a usual move of it moves the forecast.
        """
        n_assets = self.shape[0]
        fixed, others, spread = self._fixed_coefficients(series.index)
        moving_at = self._moving_coefficients(series, np.arange(n_assets))
        for place in self._places(len(rows), 1):
            out = np.repeat(fixed[None], len(place), axis=0)
            out[:, :, :n_assets] += moving_at(rows[place])
            yield out, np.abs(out) * spread[:, None] + others, rows[place]

    def _places(self, n_rows: int, share: float) -> Iterator[np.ndarray]:
        """Yield places of as many rows as fit in memory.

        ``share`` is the size of what is made of each row, of all contributions without channels.
        """
        size = max(1, int(CHUNK_CELLS / (np.prod(self.shape) * share)))
        for start in range(0, n_rows, size):
            yield np.arange(start, min(start + size, n_rows))

    def _moving_coefficients(
        self, series: TokenSeries, followers: np.ndarray
    ) -> Callable[[np.ndarray], np.ndarray | float]:
        """Return a function of rows that reads the parts which change from bar to bar.

        It gives weighted coefficients ``(b, F, N, L)``, or 0 where no such part is in the mix.
        What the parts read of the whole panel is made here, once for all batches of rows.
        """
        varying, content = self.varying, self.content
        view = None if varying is None else varying.view(series)
        features = None if content is None else content.inputs(series)[1]

        def at(rows: np.ndarray) -> np.ndarray | float:
            moving = 0.0
            if varying is not None:
                moving = varying.coefficients(view, rows, followers)
                moving = self.weights["varying"] * _over_horizon(moving, self.bars_ahead)
            if content is not None:
                pulls = content.coefficients(features, rows, followers)
                moving = moving + self.weights["content"] * pulls
            return moving

        return at

    def _fixed_coefficients(self, index: TokenIndex) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return static coefficients of returns, pulls of other channels, spreads of returns.

        Of shapes ``(N, S, L)``, ``(N, S, L)`` and ``(S,)``.
        """
        returns, others = np.zeros((2, *self.shape))
        is_return = np.array([channel.name == "return" for channel in index.channels])
        for i in range(len(returns)):
            tokens, beta = self.static.row(i)
            plain = is_return[index.channel[tokens]]
            place = index.source[tokens], index.lag[tokens] - 1
            np.add.at(returns[i], tuple(p[plain] for p in place), beta[plain])
            size = np.abs(beta) * self.spread[tokens]
            np.add.at(others[i], tuple(p[~plain] for p in place), size[~plain])
        spread = np.ones(self.shape[1])
        near = index.where("return")
        newest = near[index.lag[near] == 1]
        spread[index.source[newest]] = self.spread[newest]
        return returns, others, spread

    def _add_static(
        self,
        out: np.ndarray,
        index: TokenIndex,
        rows: np.ndarray,
        followers: np.ndarray,
        cells: np.ndarray,
    ) -> None:
        """Add the static part to ``(b, F, ...)``: each token to its flat cell of ``cells``."""
        flat = out.reshape(*out.shape[:2], -1)  # (b, F, S * L * C), a view
        for k, i in enumerate(followers):
            tokens, beta = self.static.row(i)
            values = (index.values(rows, tokens) - self.centre[tokens]) * beta  # (b, K)
            order = np.argsort(cells[tokens], kind="stable")
            place, first = np.unique(cells[tokens][order], return_index=True)
            flat[:, k, place] += np.add.reduceat(values[:, order], first, axis=1)


def _over_horizon(coefficients: np.ndarray, horizon: int) -> np.ndarray:
    """Add up coefficients of later lags: what each token adds to every bar of the horizon."""
    return running_sum(coefficients[..., ::-1], horizon)[..., ::-1]
