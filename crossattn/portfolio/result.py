"""What a backtest returns: the account's history, its trades and its figures.

Built in chapter: Backtesting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crossattn.portfolio.ledger import Account
from crossattn.portfolio.metrics import compute_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRADE_KINDS = ("order", "delisting", "ruin")


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """The history of one account, net of everything it paid.

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

    Notes
    -----
    Built in chapter: Backtesting.
    """

    equity: pd.Series
    returns: pd.Series
    turnover: pd.Series
    costs: pd.Series
    financing: pd.Series
    cash: pd.Series
    initial_capital: float
    account: Account = field(repr=False)
    marks: np.ndarray = field(repr=False)
    symbols: pd.Index = field(repr=False)

    @cached_property
    def positions(self) -> pd.DataFrame:
        """Shares held after the row's trades, (T, N); negative is short."""
        account, shape = self.account, self.marks.shape
        changes = np.zeros(shape, order="F")
        np.add.at(changes, (account.trade_row, account.trade_column), account.trade_shares)
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
        account = self.account
        price = self.marks[account.trade_row, account.trade_column]
        last = self.marks[-1, account.trade_column]
        return pd.DataFrame(
            {
                "time": self.equity.index[account.trade_row],
                "symbol": self.symbols[account.trade_column],
                "shares": account.trade_shares,
                "price": price,
                "value": account.trade_shares * price,
                "cost": account.trade_cost,
                "result": account.trade_shares * (last - price),
                "kind": np.array(TRADE_KINDS, dtype=object)[account.trade_kind],
            }
        )

    @property
    def ruined_at(self) -> pd.Timestamp | None:
        """First time at which nothing was left, or None."""
        lost = self.equity.to_numpy() <= 0
        return self.equity.index[lost.argmax()] if lost.any() else None

    @property
    def gross_returns(self) -> pd.Series:
        """Return of each row before trading costs and financing, on the same positions."""
        paid = (self.costs + self.financing).to_numpy()
        before = np.concatenate([[self.initial_capital], self.equity.to_numpy()[:-1]])
        gain = np.diff(self.equity.to_numpy(), prepend=self.initial_capital) + paid
        gross = np.divide(gain, before, out=np.zeros_like(gain), where=before > 0)
        return pd.Series(gross, self.equity.index, name="gross_return")

    def metrics(self, periods_per_year: float | None = None) -> dict[str, float]:
        """Figures of the net returns, and what trading did to them.

        Parameters
        ----------
        periods_per_year : float, optional
            Bars a year; inferred from the index when None.

        Returns
        -------
        dict
            Everything of :func:`crossattn.compute_metrics`, and ``average_turnover`` (a bar),
            ``total_costs`` and ``total_financing`` (money), ``n_trades``, ``gross_exposure`` and
            ``net_exposure`` (means over the bars), ``break_even_cost`` (the cost per traded
            notional at which the gain before costs is used up).
        """
        figures = compute_metrics(self.returns, periods_per_year=periods_per_year)
        weights = self.weights.to_numpy()
        notional = np.abs(self.trades["value"].to_numpy()[self.account.trade_kind == 0]).sum()
        gain = self.equity.iloc[-1] - self.initial_capital + self.costs.sum()
        return figures | {
            "average_turnover": float(self.turnover.mean()),
            "total_costs": float(self.costs.sum()),
            "total_financing": float(self.financing.sum()),
            "n_trades": int((self.account.trade_kind == 0).sum()),
            "gross_exposure": float(np.abs(weights).sum(axis=1).mean()),
            "net_exposure": float(weights.sum(axis=1).mean()),
            "break_even_cost": float(gain / notional) if notional else float("inf"),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the equity and return the axes."""
        from crossattn.figures import new_axes

        axes = new_axes(ax)
        axes.plot(self.equity.index, self.equity.to_numpy())
        axes.set_xlabel("time")
        axes.set_ylabel("equity (money)")
        return axes

    def _repr_html_(self) -> str:
        table = pd.Series(self.metrics(), name="net of costs").to_frame()
        return table.to_html(float_format=lambda value: f"{value:.4g}")
