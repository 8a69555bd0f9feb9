"""Volatility spillover test: a model's contributions against variances that it has not seen.

Built in chapter: Forecasting risk.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossattn.evidence.contributions import measure_contributions
from crossattn.evidence.inference import MIN_EFFECTIVE
from crossattn.evidence.volatility import diebold_mariano
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.variance import bar_variances, mean_variances

METHOD = "contributions to log volatility on held-out bars, beyond own and common volatility"
HALF_LIVES = (1.5, 5.0, 21.0, 63.0)  # of the own and common log variances that are allowed for
FEWEST_OTHERS = 3  # other assets from which a common volatility can be told from a leader's
RATIO_LIMIT = 12.0  # of realised to forecast variance, so that one jump decides nothing
SILENT = 1e-9
LOUDEST = 2  # other assets whose newest moves are allowed for
MOVE_LAGS, MOVE_LIMIT = 12, 4.0
ROWS_PER_COLUMN = 20


def spillover_scores(
    model, data: CrossAttentionData, followers: list[str]
) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Test which source's contribution to log volatility shows in held-out variances.

    Parameters
    ----------
    model : object
        A fitted forecaster with ``target="volatility"``.
    data : CrossAttentionData
        Windows that the model was not fitted on.
    followers : list of str

    Returns
    -------
    sources : tuple of str
    table : DataFrame
        One row a follower; in every cell an array over sources: ``p_value`` (one-sided), ``t``,
        ``slope``, ``lag``, ``channel``, ``effect``, ``n_effective``, ``tested``, ``silent``.

    Notes
    -----
    The ratio of realised to forecast variance, the forecast taken without source j, less one, is
    multiplied by what j's contribution does not share with (a) the other sources' contributions,
    (b) the follower's own exponential log variances, (c) their mean over the other assets, where
    there are three or more, as volatility that all share is no spillover, and (d) the newest moves
    of the two other assets that contribute most, so that what a hub sends to all is not taken for
    what its followers send to each other. Where j tells
    nothing new the mean of the product is 0; it is tested with the HAC errors of
    :func:`~crossattn.evidence.volatility.diebold_mariano`.
    """
    data = data.select(symbols=model.symbols_)
    measured = measure_contributions(model, data, followers=followers)
    forecast, realised = model.predict(data), data.realised_volatility
    squares = bar_variances(data, np.arange(len(data.symbols)))
    logs = np.stack(
        [np.log(mean_variances(squares, k, exponential=True)[data.ends]) for k in HALF_LIVES],
        axis=2,
    )  # (n, N, K)
    deviation = np.sqrt(mean_variances(squares, HALF_LIVES[2], exponential=True))
    moves = np.sqrt(np.nan_to_num(squares)) / deviation
    lags = data.ends[:, None] - np.arange(min(MOVE_LAGS, data.lookback))
    moves = np.minimum(moves, MOVE_LIMIT)[lags].transpose(0, 2, 1)  # (n, N, L)
    recent = np.concatenate([moves, moves**2, logs], axis=2)
    rows = []
    for k, follower in enumerate(measured.symbols):
        i = data.symbols.index(follower)
        known = np.isfinite(forecast[:, i]) & np.isfinite(realised[:, i])
        controls = [np.ones((known.sum(), 1)), logs[known, i]]
        others = np.delete(np.arange(len(data.symbols)), i)
        if len(others) >= FEWEST_OTHERS:
            controls.append(logs[known][:, others].mean(axis=1))
        row = _scores(
            (realised[known, i] / forecast[known, i]) ** 2,
            measured.total[known, k].astype(float),
            np.concatenate(controls, axis=1),
            data.horizon,
            recent[known],
            i,
        )
        row["effect"] = measured.response[k] * row["slope"]
        rows.append(row | {"lag": measured.lag[k], "channel": measured.channel[k]})
    return measured.sources, pd.DataFrame(rows)


def _scores(
    ratio: np.ndarray,
    parts: np.ndarray,
    controls: np.ndarray,
    horizon: int,
    recent: np.ndarray | None = None,
    follower: int = -1,
) -> dict[str, np.ndarray]:
    """Score test of each column of ``parts``, contributions to log volatility.

    ``recent`` (n, n_assets, P) describes the assets' newest moves.
    """
    n, n_sources = parts.shape
    out = {name: np.zeros(n_sources) for name in ("t", "slope", "n_effective")}
    out |= {"p_value": np.ones(n_sources), "tested": np.zeros(n_sources, bool)}
    parts = parts - parts.mean(axis=0) if n else parts
    out["silent"] = (np.abs(parts) < SILENT).all(axis=0)
    if n < MIN_EFFECTIVE * horizon or n <= parts.shape[1] + controls.shape[1] + 1:
        return out
    scale = controls.std(axis=0) + 1e-300
    scale[0] = 1.0
    controls = controls / scale
    for j in np.flatnonzero(~out["silent"]):
        others = np.delete(parts, j, axis=1)
        loudest = [] if recent is None else _loudest(parts[:, : recent.shape[1]], {j, follower})
        columns = [others, *(recent[:, m] for m in loudest)]
        columns = np.concatenate(columns, axis=1)[:, : max(1, n // ROWS_PER_COLUMN)]
        design = np.concatenate([controls, columns / (columns.std(axis=0) + 1e-300)], axis=1)
        own = parts[:, j] - design @ np.linalg.lstsq(design, parts[:, j], rcond=1e-8)[0]
        power = float((own**2).sum())
        if power < 1e-12 * float((parts[:, j] ** 2).sum()):
            continue  # told apart from nothing
        without = np.minimum(ratio * np.exp(2 * parts[:, j]), RATIO_LIMIT)
        score = own * (without - without.mean())
        n_effective = power**2 / float((own**4).sum()) / horizon
        out["n_effective"][j] = n_effective
        if n_effective < MIN_EFFECTIVE:
            continue
        test = diebold_mariano(score, np.zeros(n), horizon)
        out["tested"][j], out["t"][j] = True, test.t
        out["p_value"][j] = test.p_value / 2 if test.t > 0 else 1 - test.p_value / 2
        out["slope"][j] = score.sum() / (2 * power)
    return out


def _loudest(parts: np.ndarray, left_out: set[int]) -> list[int]:
    """The assets whose contributions vary most."""
    order = np.argsort(-parts.std(axis=0), kind="stable")
    return [int(m) for m in order if m not in left_out][:LOUDEST]
