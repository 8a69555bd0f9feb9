"""Cross-sectional information coefficients and quantile returns, with errors for overlap.

Do the forecasts rank the assets of one moment? The correlation is taken within each row, so that a
forecast of the whole market earns nothing here.

Built in chapter: From paper to practice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crossattn._validation import check_array, check_int, in_order
from crossattn.errors import InvalidInputError
from crossattn.evidence.inference import ROUNDING, long_run_error
from crossattn.figures import Axes, new_axes
from crossattn.windows.checks import check_windows
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.spans import forward_returns

METHODS = ("pearson", "rank")


@dataclass(frozen=True, eq=False)
class CrossSectionReport:
    """Cross-sectional skill of forecasts.

    Attributes
    ----------
    ic : DataFrame of shape (n, 3)
        By close time: ``pearson`` and ``rank`` correlation of the row's forecasts and returns over
        the horizon, NaN where fewer than three assets have both or one does not vary; ``n_assets``.
    summary : DataFrame
        Rows ``pearson`` and ``rank``: ``mean``, ``standard_error`` and ``t`` (Newey-West, beyond
        the overlap of the returns; NaN where all rows are the same, or are fewer than eight or no
        more than the horizon), ``deviation`` of the rows, ``positive`` (share) and ``n``.
    decay : DataFrame
        By horizon, in bars from the forecast on: ``pearson`` and ``rank`` (means), their
        ``pearson_error`` and ``rank_error``, and ``n``.
    quantiles : DataFrame
        Rows 1 (lowest forecasts) to Q and ``spread`` (Q less 1): ``mean`` return over the horizon
        of the assets in it, equally weighted, a fraction before costs; ``standard_error``, ``t``
        and ``n`` rows.
    horizon : int
    """

    ic: pd.DataFrame
    summary: pd.DataFrame
    decay: pd.DataFrame
    quantiles: pd.DataFrame
    horizon: int

    def __repr__(self) -> str:
        rank, spread = self.summary.loc["rank"], self.quantiles.loc["spread"]
        return (
            f"rank IC {rank['mean']:+.4f} ± {rank['standard_error']:.4f} (t {rank['t']:.1f}, "
            f"{rank['n']:.0f} rows); spread of {len(self.quantiles) - 1} quantiles "
            f"{spread['mean'] / 1e-4:+.2f} ± {spread['standard_error'] / 1e-4:.2f} bp a horizon of "
            f"{self.horizon}"
        )

    def _repr_html_(self) -> str:
        shown = (self.summary, self.decay, self.quantiles)
        tables = "".join(table.to_html(float_format="{:.4g}".format) for table in shown)
        return f"<p><strong>{escape(repr(self))}</strong></p>{tables}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the mean return of each quantile, in basis points, with 95 % error bars."""
        ax = new_axes(ax)
        table = self.quantiles.drop("spread") / 1e-4
        ax.bar(table.index.astype(str), table["mean"], yerr=1.96 * table["standard_error"])
        ax.set(xlabel="quantile of the forecast", ylabel="mean return (basis points)")
        return ax


def analyze_cross_section(
    forecast: ArrayLike,
    data: CrossAttentionData,
    *,
    n_quantiles: int = 5,
    horizons: Sequence[int] | None = None,
) -> CrossSectionReport:
    """Cross-sectional information coefficient and quantile analysis of forecasts.

    Parameters
    ----------
    forecast : array-like of shape (n, n_assets)
        One number an asset and window, in the order of ``data.symbols``, known at the window's last
        close: ``model.predict(data)``. NaN: none.
    data : CrossAttentionData
        The windows that were forecast and not fitted on.
    n_quantiles : int
        Groups by forecast, at least 2; rows with fewer assets than groups are left out.
    horizons : sequence of int, optional
        Bars after the forecast, for the decay; by default 1, 2, 4, ... up to twice the data's own.

    Returns
    -------
    CrossSectionReport

    Raises
    ------
    InvalidInputError
        Shapes differ, or no row has three assets with a forecast and a return.

    Notes
    -----
    Ties of forecasts share ranks in the rank correlation; in the quantiles they go by position.
    Newey-West errors have the lags and the divisor of :func:`.diebold_mariano`, and are larger by
    the ratio of Student's to the normal quantile: 1.96 of them to each side hold 95 %.

    References
    ----------
    Grinold and Kahn (1999), "Active Portfolio Management". Fama and MacBeth (1973), "Risk, return,
    and equilibrium". Newey and West (1987), Econometrica 55.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> market = simulate_market(n_assets=8, n_steps=2000, predictability=0.05)
    >>> data = prepare_cross_attention_data(market.frames, 8, 1, ["log_return"])
    >>> report = analyze_cross_section(market.oracle[data.ends], data, n_quantiles=4)
    >>> bool(report.summary.loc["rank", "t"] > 5)
    True
    """
    check_windows("data", data)
    forecast = in_order("forecast", forecast, data.symbols)
    forecast = check_array("forecast", forecast, data.y.shape)
    n_quantiles = check_int("n_quantiles", n_quantiles, at_least=2)
    if horizons is None:
        horizons = [2**k for k in range(int(np.log2(2 * data.horizon)) + 1)]
    ic = _by_row(forecast, data.y).set_index(data.timestamps)
    if ic["pearson"].isna().all():
        raise InvalidInputError("forecast: no row has three known assets whose forecasts differ")
    summary = pd.DataFrame({name: _mean(ic[name], data.horizon) for name in METHODS}).T
    summary["deviation"] = ic[list(METHODS)].std()
    summary["positive"] = (ic[list(METHODS)] > 0).sum() / summary["n"]
    if not np.iterable(horizons):
        raise InvalidInputError(f"horizons must be a sequence of integers, got {horizons!r}")
    decay = {check_int("horizons", h): _decay(forecast, data, h) for h in horizons}
    returns = _quantile_returns(forecast, data.y, n_quantiles)
    quantiles = pd.DataFrame({name: _mean(row, data.horizon) for name, row in returns.items()}).T
    return CrossSectionReport(
        ic,
        summary.rename_axis("method"),
        pd.DataFrame.from_dict(decay, orient="index").rename_axis("horizon"),
        quantiles.rename_axis("quantile"),
        data.horizon,
    )


def _by_row(forecast: np.ndarray, returns: np.ndarray) -> pd.DataFrame:
    """Correlations of each row's forecasts and returns."""
    known = np.isfinite(forecast) & np.isfinite(returns)
    pair = [pd.DataFrame(np.where(known, x, np.nan)) for x in (forecast, returns)]
    enough = known.sum(axis=1) >= 3
    columns = {}
    for x in pair:  # what differs by rounding alone does not vary
        enough &= x.max(axis=1) - x.min(axis=1) > ROUNDING * x.abs().max(axis=1)
    for name, (a, b) in zip(METHODS, (pair, [x.rank(axis=1) for x in pair]), strict=True):
        a, b = (x.sub(x.mean(axis=1), axis=0) for x in (a, b))
        power = (a**2).sum(axis=1) * (b**2).sum(axis=1)
        columns[name] = ((a * b).sum(axis=1) / np.sqrt(power)).where(enough)
    return pd.DataFrame({**columns, "n_assets": known.sum(axis=1)})


def _mean(values: pd.Series, horizon: int) -> dict[str, float]:
    """Mean of the known rows, its Newey-West error, t and their number."""
    values = values.dropna().to_numpy()
    n, mean = len(values), values.mean() if len(values) else np.nan
    error = long_run_error(values, horizon)
    t = mean / error if error else 0.0
    return {"mean": mean, "standard_error": error, "t": t, "n": float(n)}


def _decay(forecast: np.ndarray, data: CrossAttentionData, horizon: int) -> dict[str, float]:
    """Mean correlations with the return over a horizon of its own."""
    ends = data.ends[data.ends + horizon < len(data.closes)]
    if not len(ends):
        raise InvalidInputError(f"horizons: no window has {horizon} bars after it")
    rows = _by_row(forecast[: len(ends)], forward_returns(data.closes, horizon)[ends])
    found = {name: _mean(rows[name], horizon) for name in METHODS}
    means = {name: each["mean"] for name, each in found.items()}
    errors = {f"{name}_error": each["standard_error"] for name, each in found.items()}
    return means | errors | {"n": found["rank"]["n"]}


def _quantile_returns(
    forecast: np.ndarray, returns: np.ndarray, n_quantiles: int
) -> dict[object, pd.Series]:
    """Mean return of each row's quantiles and their spread, NaN in rows with too few assets."""
    known = np.isfinite(forecast) & np.isfinite(returns)
    rank = pd.DataFrame(np.where(known, forecast, np.nan)).rank(axis=1, method="first").to_numpy()
    count = known.sum(axis=1, keepdims=True)
    # 1 to Q as pandas.qcut cuts ranks, NaN where unknown
    group = np.maximum(np.ceil((rank - 1) * n_quantiles / np.maximum(count - 1, 1)), 1)
    group[count[:, 0] < n_quantiles] = np.nan
    frame = pd.DataFrame(returns)
    found = {q: frame.where(group == q).mean(axis=1) for q in range(1, n_quantiles + 1)}
    return {**found, "spread": found[n_quantiles] - found[1]}
