"""Result of a backtest: equity, positions, trades, metrics, attribution.

Built in chapter: Backtesting.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.figures import Axes, new_axes
from crossattn.portfolio._account import ORDER, TRADE_KINDS
from crossattn.portfolio.metrics import compute_metrics
from crossattn.portfolio.significance import sharpe_interval


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """Equity, positions, trades and costs of a backtest, net of everything that was paid.

    Attributes
    ----------
    equity : Series of shape (T,)
        Cash plus positions at the marks, after the row's trades and their costs; money.
    returns : Series of shape (T,)
        Net simple return of each row; the first is measured from the initial capital.
    turnover : Series of shape (T,)
        Traded notional, buys plus sells, as a fraction of the equity before the trade.
    costs : Series of shape (T,)
        Money paid for trading: fees, slippage, impact.
    financing : Series of shape (T,)
        Money paid for holding since the row before: borrowed stock, funding, interest on negative
        cash, less interest earned. Negative is income.
    cash : Series of shape (T,)
        Cash after the row's trades; negative when the account is levered.
    initial_capital : float
        Money at the start.

    Built in chapter: Backtesting.
    """

    equity: pd.Series
    returns: pd.Series
    turnover: pd.Series
    costs: pd.Series
    financing: pd.Series
    cash: pd.Series
    initial_capital: float
    marks: np.ndarray = field(repr=False)
    symbols: pd.Index = field(repr=False)
    _trades: np.ndarray = field(repr=False)

    @cached_property
    def positions(self) -> pd.DataFrame:
        """Shares held after the row's trades, (T, N); negative is short."""
        changes = np.zeros(self.marks.shape, order="F")
        np.add.at(changes, (self._trades["row"], self._trades["column"]), self._trades["shares"])
        return pd.DataFrame(np.cumsum(changes, axis=0), self.equity.index, self.symbols)

    @cached_property
    def weights(self) -> pd.DataFrame:
        """Position values over equity, (T, N), after the row's trades; 0 once ruined."""
        equity = self.equity.to_numpy()[:, None]
        value = self.positions.to_numpy() * self.marks
        share = np.divide(value, equity, out=np.zeros_like(value), where=equity > 0)
        return pd.DataFrame(share, self.equity.index, self.symbols)

    @cached_property
    def trades(self) -> pd.DataFrame:
        """One row a trade, in time order.

        Columns: ``time``, ``symbol``, ``shares`` (signed), ``price``, ``value`` (signed money),
        ``cost`` (money), ``result`` (what the trade had earned at the last mark, before its cost:
        shares times the price change since) and ``kind`` (order, delisting or ruin). The results
        less the costs and the financing add up to the change of the equity.
        """
        row, column, shares = (self._trades[name] for name in ("row", "column", "shares"))
        price = self.marks[row, column]
        return pd.DataFrame(
            {
                "time": self.equity.index[row],
                "symbol": self.symbols[column],
                "shares": shares,
                "price": price,
                "value": shares * price,
                "cost": self._trades["cost"],
                "result": shares * (self.marks[-1, column] - price),
                "kind": np.array(TRADE_KINDS, dtype=object)[self._trades["kind"]],
            }
        )

    @property
    def gross_returns(self) -> pd.Series:
        """Return of each row before trading costs and financing, on the same positions."""
        before = self.equity.shift(fill_value=self.initial_capital)
        gain = self.equity - before + (self.costs + self.financing)
        return (gain / before).where(before > 0, 0.0).rename("gross_return")

    def metrics(self, periods_per_year: float | None = None) -> dict[str, float]:
        """Metrics of the net returns, and of trading and exposure.

        Parameters
        ----------
        periods_per_year : float, optional
            Bars a year; inferred from the index when None.

        Returns
        -------
        dict
            Those of :func:`crossattn.compute_metrics`, and ``sharpe_ratio_low`` and
            ``sharpe_ratio_high`` (95 % interval of :func:`.sharpe_interval`,
            NaN on fewer than ten returns or equal ones), ``average_turnover`` (a bar),
            ``total_costs`` and ``total_financing`` (money), ``n_trades``, ``gross_exposure`` and
            ``net_exposure`` (means over the bars), ``break_even_cost`` (the cost per traded
            notional at which the gain before costs is used up).
        """
        figures = compute_metrics(self.returns, periods_per_year=periods_per_year)
        weights = self.weights.to_numpy()
        orders = self._trades[self._trades["kind"] == ORDER]
        notional = np.abs(orders["shares"] * self.marks[orders["row"], orders["column"]]).sum()
        gain = self.equity.iloc[-1] - self.initial_capital + self.costs.sum()
        low = high = float("nan")
        with suppress(InvalidInputError):  # fewer than ten returns, or equal ones
            found = sharpe_interval(self.returns, periods_per_year=figures["periods_per_year"])
            low, high = found.low, found.high
        return figures | {
            "sharpe_ratio_low": low,
            "sharpe_ratio_high": high,
            "average_turnover": float(self.turnover.mean()),
            "total_costs": float(self.costs.sum()),
            "total_financing": float(self.financing.sum()),
            "n_trades": len(orders),
            "gross_exposure": float(np.abs(weights).sum(axis=1).mean()),
            "net_exposure": float(weights.sum(axis=1).mean()),
            "break_even_cost": float(gain / notional) if notional else float("inf"),
        }

    def attribution(self) -> pd.DataFrame:
        """Split the account's gain by asset.

        Returns
        -------
        DataFrame, a row an asset
            Money: ``gain`` of the positions before costs, ``cost`` of their trades, ``net``; and
            ``turnover``, the traded notional over the mean equity. The gains less all costs and
            the account's ``financing`` (interest, borrow, funding) are the change of its equity.

        Examples
        --------
        >>> from crossattn import backtest_weights
        >>> times = pd.date_range("2024-01-01", periods=2, tz="UTC")
        >>> prices = pd.DataFrame({"A": [10.0, 11.0], "B": [10.0, 9.0]}, index=times)
        >>> weights = pd.DataFrame({"A": [0.5], "B": [-0.5]}, index=times[:1])
        >>> result = backtest_weights(weights, prices, transaction_cost=0.0)
        >>> result.attribution()["gain"].round(6).tolist()
        [5000.0, 5000.0]
        """
        trades, equity = self.trades, self.equity.mean()
        money = pd.DataFrame(
            {
                "gain": trades["result"],
                "cost": trades["cost"],
                "net": trades["result"] - trades["cost"],
                "turnover": trades["value"].abs() / (equity if equity > 0 else np.nan),
            }
        )
        return money.groupby(trades["symbol"]).sum().reindex(self.symbols, fill_value=0.0)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot the equity over time and return the axes."""
        axes = new_axes(ax)
        axes.plot(self.equity.index, self.equity.to_numpy())
        axes.set(xlabel="time", ylabel="equity (money)")
        return axes

    def _repr_html_(self) -> str:
        table = pd.Series(self.metrics(), name="net of costs").to_frame()
        return table.to_html(float_format=lambda value: f"{value:.4g}")
