"""Volatility spillover test: a model's contributions against variances that it has not seen.

Built in chapter: Forecasting risk.
"""

import numpy as np
import pandas as pd
from scipy import stats

from crossattn.evidence.contributions import measure_contributions
from crossattn.evidence.inference import MIN_EFFECTIVE
from crossattn.evidence.volatility import diebold_mariano
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.variance import bar_variances, mean_variances

METHOD = "contributions to log volatility on held-out bars, beyond own and common volatility"
HALF_LIVES = (1.5, 5.0, 21.0, 63.0)  # of the own and common log variances that are allowed for
FEWEST_OTHERS = 3  # other assets from which a common volatility can be told from a leader's
RATIO_LIMIT = 12.0  # of realised to forecast variance, so that one jump decides nothing
NEGLIGIBLE = 1e-9  # contribution that counts as none
MOST_VARYING = 2  # other assets at most whose variances are allowed for one by one
NEWEST, JUMP_LIMIT = 12, 16.0  # squared returns that are, at most in units of a slow variance
ROWS_PER_COLUMN = 20


def spillover_scores(
    model, data: CrossAttentionData, followers: list[str]
) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Test which source's contribution to log volatility shows in held-out variances.

    Returns the sources, and a table with one row a follower: in every cell an array over sources of
    ``p_value`` (one-sided), ``t``, ``slope``, ``lag``, ``channel``, ``effect``, ``n_effective``,
    ``tested`` and ``inactive``.

    Notes
    -----
    The ratio of realised to forecast variance, the forecast taken without source j, less one, is
    multiplied by what j's contribution does not share with (a) the other sources' contributions,
    (b) the follower's own exponential variances, (c) their mean over the other assets, where there
    are three or more, as volatility that all share is no spillover, and (d) exponential variances
    and newest squared returns of up to two other assets that contribute most, so that what a hub
    sends to all is not taken for what its followers send to each other. Variances enter as logs and
    in units of the forecast without j, in which GARCH and its spillovers are linear. Where j tells
    nothing new the mean of the product is 0; it is tested with the HAC errors of
    :func:`~crossattn.evidence.volatility.diebold_mariano`. A few large products decide how well
    those errors are known: t has as many degrees of freedom as the number of equal products that
    would have the same kurtosis, less one.
    """
    data = data.select(symbols=model.symbols_)
    measured = measure_contributions(model, data, followers=followers)
    forecast, realised = model.predict(data), data.realised_volatility
    squares = bar_variances(data)
    means = [mean_variances(squares, k, exponential=True) for k in HALF_LIVES]
    lags = data.ends[:, None] - np.arange(min(NEWEST, data.lookback))
    newest = np.minimum(np.nan_to_num(squares), JUMP_LIMIT * means[2])[lags]  # (n, L, N)
    means = np.stack(means, axis=2)[data.ends]  # (n, N, K)
    variances = np.concatenate([means, newest.transpose(0, 2, 1)], axis=2)
    logs = np.log(means)
    rows = []
    for k, follower in enumerate(measured.symbols):
        i = data.symbols.index(follower)
        known = np.isfinite(forecast[:, i]) & np.isfinite(realised[:, i])
        ratio = (realised[known, i] / forecast[known, i]) ** 2
        relative = variances[known] / forecast[known, i, None, None] ** 2
        parts = measured.total[known, k].astype(float)
        row = _scores(ratio, parts, logs[known], relative, i, data.horizon)
        row["effect"] = measured.response[k] * row["slope"]
        rows.append(row | {"lag": measured.lag[k], "channel": measured.channel[k]})
    return measured.sources, pd.DataFrame(rows)


def _scores(ratio, parts, logs, variances, follower: int, horizon: int) -> dict[str, np.ndarray]:
    """Score test of each column of ``parts``, contributions to a follower's log volatility.

    Arrays: ``ratio`` (n,) of realised to forecast variance; ``parts`` (n, n_sources); ``logs``
    (n, n_assets, K), exponential log variances; ``variances`` (n, n_assets, K + L), these and the
    newest squared returns, over the forecast variance.
    """
    n_assets, n_means = logs.shape[1:]
    exponential = variances[:, :, :n_means]
    controls = [np.ones((len(logs), 1)), logs[:, follower]]
    relative = [exponential[:, follower]]
    if n_assets > FEWEST_OTHERS:
        controls.append(np.delete(logs, follower, axis=1).mean(axis=1))
        relative.append(np.delete(exponential, follower, axis=1).mean(axis=1))
    controls = np.concatenate(controls, axis=1)
    n, n_sources = parts.shape
    out = {name: np.zeros(n_sources) for name in ("t", "slope", "n_effective")}
    out |= {"p_value": np.ones(n_sources), "tested": np.zeros(n_sources, bool)}
    parts = parts - parts.mean(axis=0) if n else parts
    out["inactive"] = (np.abs(parts) < NEGLIGIBLE).all(axis=0)
    if n < MIN_EFFECTIVE * horizon or n <= parts.shape[1] + controls.shape[1] + 1:
        return out
    scale = controls.std(axis=0) + 1e-300
    scale[0] = 1.0
    controls = controls / scale
    for j in np.flatnonzero(~out["inactive"]):
        growth = np.exp(2 * parts[:, j, None])  # of the forecast variance by j
        chosen = _most_varying(parts[:, :n_assets], {j, follower})
        columns = [np.delete(parts, j, axis=1)]
        columns += [value * growth for value in (*relative, *variances[:, chosen].swapaxes(0, 1))]
        columns += list(logs[:, chosen].swapaxes(0, 1))
        columns = np.concatenate(columns, axis=1)[:, : max(1, n // ROWS_PER_COLUMN)]
        design = np.concatenate([controls, columns / (columns.std(axis=0) + 1e-300)], axis=1)
        own = parts[:, j] - design @ np.linalg.lstsq(design, parts[:, j], rcond=1e-8)[0]
        power = float((own**2).sum())
        if power < 1e-12 * float((parts[:, j] ** 2).sum()):
            continue  # told apart from nothing
        without = np.minimum(ratio * growth[:, 0], RATIO_LIMIT)
        score = own * (without - without.mean())
        n_effective = _effective_count(own) / horizon
        out["n_effective"][j] = n_effective
        if n_effective < MIN_EFFECTIVE:
            continue
        lags = max(round(np.cbrt(n)), 2 * (horizon - 1))  # only overlaps correlate products much
        t = diebold_mariano(score, np.zeros(n), horizon, lags=lags).t
        freedom = min(_effective_count(score) / horizon, 1.5 * n / (lags + 1)) - 1
        out["tested"][j], out["t"][j] = True, t
        out["p_value"][j] = stats.t.sf(t, max(freedom, 1.0))
        out["slope"][j] = score.sum() / (2 * power)
    return out


def _effective_count(values: np.ndarray) -> float:
    """Number of equally large values whose sum of squares is known as well as that of these."""
    squares = values**2
    power = (squares**2).sum()
    return float(squares.sum() ** 2 / power) if power else 0.0


def _most_varying(parts: np.ndarray, left_out: set[int]) -> list[int]:
    """The assets whose contributions vary most: at least one, at most half of the others."""
    order = np.argsort(-parts.std(axis=0), kind="stable")
    others = [int(m) for m in order if m not in left_out]
    return others[: min(MOST_VARYING, max(1, len(others) // 2))]
