"""The lead-lag report: one row an ordered pair, with its error controlled over all pairs.

Built in chapter: Who really leads?
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crossattn.evidence.inference import benjamini_hochberg

if TYPE_CHECKING:
    import networkx
    from matplotlib.axes import Axes

EDGE_COLUMNS = ["leader", "follower", "lag", "effect", "p_value", "q_value", "significant"]


@dataclass(frozen=True)
class LeadLagReport:
    """Who leads whom, at which lag, by how much, and how sure.

    Attributes
    ----------
    edges : DataFrame
        One row an ordered pair, surest first: ``leader``, ``follower``, ``lag`` (bars from the
        leader's bar to the first bar of the horizon, 1 the newest known), ``effect`` (change of
        the follower's return, in its own standard deviations, for one of the leader's),
        ``p_value`` (valid after the choice of lag; 1 where untestable), ``q_value`` (over all
        pairs), ``significant`` (``q_value <= alpha``).
    details : DataFrame
        The same rows, with what each method measured besides.
    symbols : tuple of str
    alpha : float
        Accepted share of false claims among those made.
    method : str
        What was tested, in a sentence.
    n_windows : int
        Windows the test used.
    """

    edges: pd.DataFrame
    details: pd.DataFrame
    symbols: tuple[str, ...]
    alpha: float
    method: str
    n_windows: int

    @property
    def nobody_leads(self) -> bool:
        """Whether no pair stands once all were looked at: an answer, not a failure."""
        return not self.edges["significant"].any()

    @property
    def leadership(self) -> pd.DataFrame:
        """By symbol: how many it leads and follows, and the sum of its effects as a leader.

        Columns ``leads``, ``follows`` (significant pairs only), ``strength`` (sum of absolute
        effects over those it leads), ``net`` (strength minus that of those who lead it).
        """
        found = self.edges[self.edges["significant"]]
        size = found["effect"].abs()
        sent = size.groupby(found["leader"]).sum()
        received = size.groupby(found["follower"]).sum()
        table = pd.DataFrame(
            {
                "leads": found["leader"].value_counts(),
                "follows": found["follower"].value_counts(),
                "strength": sent,
                "net": sent.sub(received, fill_value=0.0),
            }
        ).reindex(pd.Index(self.symbols, name="symbol"))
        return table.fillna(0.0).astype({"leads": int, "follows": int})

    def matrix(self, column: str = "effect") -> pd.DataFrame:
        """Return one column of ``edges`` as a table, followers in rows, NaN on the diagonal."""
        table = self.edges.pivot_table(
            index="follower", columns="leader", values=column, dropna=False
        )
        return table.reindex(index=list(self.symbols), columns=list(self.symbols))

    def graph(self) -> networkx.DiGraph:
        """Return the significant pairs as a directed graph, leader to follower."""
        import networkx

        graph = networkx.DiGraph()
        graph.add_nodes_from(self.symbols)
        for row in self.edges[self.edges["significant"]].itertuples():
            graph.add_edge(
                row.leader, row.follower, lag=row.lag, effect=row.effect, q_value=row.q_value
            )
        return graph

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the effects, with a ring around each pair that stands; a row is a follower."""
        from crossattn.figures import signed_heatmap

        effects = self.matrix().fillna(0.0)
        ax = signed_heatmap(
            effects,
            self.symbols,
            label="effect (standard deviations)",
            title=self._verdict(),
            ax=ax,
        )
        position = {symbol: k for k, symbol in enumerate(self.symbols)}
        found = self.edges[self.edges["significant"]]
        ax.scatter(
            [position[s] + 0.5 for s in found["leader"]],
            [position[s] + 0.5 for s in found["follower"]],
            s=900,
            facecolors="none",
            edgecolors="black",
            linewidths=1.4,
        )
        return ax

    def _verdict(self) -> str:
        if self.nobody_leads:
            return f"Nobody leads: no pair stands at q ≤ {self.alpha:g}"
        count = int(self.edges["significant"].sum())
        return f"{count} of {len(self.edges)} pairs stand at q ≤ {self.alpha:g}"

    def __str__(self) -> str:
        return f"{self._verdict()} ({self.method}; {self.n_windows} windows)"

    def _repr_html_(self) -> str:
        found = self.edges[self.edges["significant"]]
        shown = found if len(found) else self.edges.head(3)
        return f"<p><strong>{escape(str(self))}</strong></p>" + shown.to_html(
            index=False, float_format="{:.4g}".format
        )


def make_report(
    symbols: tuple[str, ...],
    *,
    lag: np.ndarray,
    effect: np.ndarray,
    p_value: np.ndarray,
    alpha: float,
    method: str,
    n_windows: int,
    **details: np.ndarray,
) -> LeadLagReport:
    """Lay out matrices (follower, leader) as a report, with q-values over all ordered pairs.

    Every matrix has shape (N, N); diagonals are left out. ``details`` adds columns to
    ``report.details``.
    """
    follower, leader = np.nonzero(~np.eye(len(symbols), dtype=bool))
    names = np.asarray(symbols, dtype=object)
    p = np.where(np.isfinite(p_value), p_value, 1.0)[follower, leader]
    q = benjamini_hochberg(p)
    table = pd.DataFrame(
        {
            "leader": names[leader],
            "follower": names[follower],
            "lag": lag[follower, leader].astype(int),
            "effect": np.nan_to_num(effect[follower, leader]),
            "p_value": p,
            "q_value": q,
            "significant": q <= alpha,
            **{name: values[follower, leader] for name, values in details.items()},
        }
    )
    table = table.sort_values("p_value", kind="stable", ignore_index=True)
    return LeadLagReport(
        edges=table[EDGE_COLUMNS].copy(),
        details=table,
        symbols=tuple(symbols),
        alpha=alpha,
        method=method,
        n_windows=n_windows,
    )
