"""Tradability of leads: gross gain, break-even cost, and leads that are artefacts of clocks.

A lead in closes is worth nothing where the follower had no price that moved at the moment at which
the lead is known: its market was closed, its quotes were stale, or its clock is off by a bar.

Built in chapter: Who really leads?
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from crossattn.data.panel import as_panel
from crossattn.evidence.inference import CLIP, contribution_scores, known_steps, robust_regression
from crossattn.tokens.channels import SIGNED_CHANNELS
from crossattn.windows.dataset import CrossAttentionData

BASIS_POINT = 1e-4
FADED = 0.5  # a slope that falls below this share at tradable prices, and to nothing by its p-value
LEVEL = 0.05
LATE = 0.15  # least median correlation with the others a bar apart of an asset a bar off
LATE_T = (1.5, 2.0, 3.0, 4.5)  # thresholds tried: how surely an asset follows the others' mean
CLOCK = "a clock, not a lead: "


def gains(closes: np.ndarray, starts: np.ndarray, y: np.ndarray, parts: np.ndarray) -> dict:
    """Return what trading each contribution's sign would earn before costs, by source.

    ``closes`` (n_rows,) and returns ``y`` (n,) are the follower's, ``starts`` (n,) the rows at
    which windows end. ``gross_gain`` is the mean of ``sign(part) * y`` in basis points, over
    windows with a known return and a contribution other than 0; ``break_even_cost`` the gain of
    holding each sign from one known close to the next, per notional traded. 0 where nothing is
    traded.
    """
    sign = np.sign(np.nan_to_num(parts))
    moves = np.isfinite(y)
    n_moves = np.maximum(np.abs(sign[moves]).sum(axis=0), 1)
    rows = np.flatnonzero(np.isfinite(closes))
    here = np.isin(starts, rows[:-1])  # where the follower can be traded, and has a next close
    now = np.searchsorted(rows, starts[here])
    gain = (closes[rows[now + 1]] / closes[rows[now]] - 1) @ sign[here]
    traded = np.abs(np.diff(sign[here], axis=0, prepend=0)).sum(axis=0)
    return {
        "gross_gain": y[moves] @ sign[moves] / n_moves / BASIS_POINT,
        "break_even_cost": np.divide(gain, traded, out=np.zeros_like(gain), where=traded > 0),
    }


@dataclass(frozen=True)
class Prices:
    """Opens of windows' bars, and which bars were traded; see :meth:`at_tradable_prices`."""

    data: CrossAttentionData

    @cached_property
    def _panel(self) -> pd.DataFrame | None:
        """The bars that the windows were made from, on their clock."""
        bars = self.data.bars
        return None if bars is None else as_panel(bars).reindex(self.data.clock)

    def _field(self, name: str, asset: int) -> np.ndarray:
        symbol, panel = self.data.symbols[asset], self._panel
        if panel is None or (name, symbol) not in panel:
            return np.full(len(self.data.closes), np.nan)
        return panel[name, symbol].to_numpy(float)

    def opens(self, asset: int) -> np.ndarray | None:
        """Opens (n_rows,); None where they add nothing to the closes."""
        opens, closes = self._field("open", asset), self.data.closes[:, asset]
        rows = np.flatnonzero(np.isfinite(closes))
        before, own, close = closes[rows[:-1]], opens[rows[1:]], closes[rows[1:]]
        if np.isnan(own).any() or (own == close).all():
            return None
        return None if np.isclose(own, before, rtol=1e-9, atol=0).all() else opens

    def live(self, asset: int) -> np.ndarray:
        """Whether the asset traded in each row (n_rows,): its price moved, and its volume too."""
        closes = self.data.closes[:, asset]
        known = np.isfinite(closes)
        last = pd.Series(closes).ffill().shift().to_numpy()
        still = (closes == last) & ~(self._field("high", asset) > self._field("low", asset))
        volume = self._field("volume", asset)
        if (volume > 0).any():
            still |= volume == 0
        return known & ~still

    def at_tradable_prices(
        self, asset: int, starts: np.ndarray, stops: np.ndarray, parts: np.ndarray, test: bool
    ) -> dict[str, np.ndarray]:
        """Repeat the test of contributions with prices that could be traded.

        Only windows at whose end the follower traded count, and its return begins at the open of
        its next bar, where opens are known. By source: ``tradable_share`` of the moves,
        ``p_tradable`` and ``slope_tradable``, NaN without ``test`` and where too few independent
        days are left for one: unless none of the moves could be traded, which needs no test.
        """
        data, closes = self.data, self.data.closes[:, asset]
        clock = data.clock.as_unit("s").asi8
        live = self.live(asset)
        moves = (stops >= 0) & np.isfinite(closes[starts]) & np.isfinite(closes[stops])
        moving = moves[:, None] & (np.nan_to_num(parts) != 0)
        share = (moving & live[starts, None]).sum(axis=0) / np.maximum(moving.sum(axis=0), 1)
        empty = np.full(parts.shape[1], np.nan)
        found = {"tradable_share": share, "p_tradable": empty, "slope_tradable": empty}
        if not test:
            return found
        opens = self.opens(asset)
        ends = np.where(live[starts], stops, -1)
        if opens is not None:  # a row for each open, a row for each close
            own = np.flatnonzero(np.isfinite(closes))
            following = own[np.minimum(np.searchsorted(own, starts, side="right"), len(own) - 1)]
            ends = np.where((ends >= following) & (following > starts), 2 * ends + 1, -1)
            starts, clock = 2 * following, np.repeat(clock, 2)
            closes = np.where(np.isfinite(closes), [opens, closes], np.nan).T.ravel()
        row = contribution_scores(closes, starts, ends, clock, parts)
        decided = row["tested"] & ~row["inactive"] | (share == 0)
        tradable = {"p_tradable": row["p_value"], "slope_tradable": row["slope"]}
        return found | {name: np.where(decided, x, np.nan) for name, x in tradable.items()}

    @cached_property
    def _returns(self) -> np.ndarray:
        """Returns over known volatility, clipped, (n_rows, N), up to the newest window's row."""
        closes = self.data.closes[: self.data.ends[-1] + 1]
        scaled = np.full(closes.shape, np.nan)
        for asset, column in enumerate(closes.T):
            rows = np.flatnonzero(np.isfinite(column))
            if len(rows) > 2:
                _, returns, volatility = known_steps(column)
                scaled[rows[1:], asset] = np.clip(returns / volatility, -CLIP, CLIP)
        return scaled

    def explained_by_clocks(self, leader: int, follower: int, direction: float) -> str:
        """Say why closes that are late explain a lead of one bar; empty where they do not.

        Notes
        -----
        *A clock that is a bar off*: an asset moves with the others' bar before or after as they
        move together, and hardly with the same one.

        *Stale closes*: the follower's close hides a share of its move, which the next bar shows.
        Its next return then covaries with each punctual asset as its move in the same bar does,
        times that share, and not with itself or with other late assets. The best forecast of this
        kind is one series z. The lead is explained where, in a regression of the next return on z
        and on the leader's return, z is significant and the leader is not. A lead proper is a
        property of one asset: z adds nothing to it. Assets count as late whose next return follows
        the mean of the others', by the threshold of t that suits the follower best. Needs three
        assets that trade together.
        """
        r, n_assets = self._returns, len(self.data.symbols)
        together = [
            k
            for k in range(n_assets)
            if k == leader or (_share(r[:, k], r[:, follower]) > 0.5 and np.nanstd(r[:, k]) > 0)
        ]
        r = r[:, together]
        i, j = together.index(follower), together.index(leader)
        complete = np.isfinite(r).all(axis=1)
        rows = np.flatnonzero(complete[:-1] & complete[1:])
        if len(together) < 3 or len(rows) < 20 * len(together):
            return ""
        now, later = (part - part.mean(axis=0) for part in (r[rows], r[rows + 1]))
        same, next_ = now.T @ now / len(now), later.T @ now / len(now)  # next_[k, l]: l leads k
        for k, ahead in ((i, next_[i]), (j, next_[:, j])):
            if _is_a_bar_off(k, ahead, same):
                symbol, when = self.data.symbols[together[k]], "late" if k == i else "early"
                return f"{CLOCK}{symbol}'s bars look stamped one bar {when}"
        lateness = np.array([_lateness(later[:, k], now, k) for k in range(len(together))])
        late_by = [np.append(np.flatnonzero(lateness > least), i) for least in LATE_T]
        hidden = np.tile(same[i], (len(late_by), 1))
        for covariance, late in zip(hidden, late_by, strict=True):
            covariance[late] = 0.0
        weights = np.linalg.lstsq(same, hidden.T, rcond=None)[0]  # (assets, choices)
        size = np.maximum(np.linalg.norm(now @ weights, axis=0), 1e-12)
        fits = later[:, i] @ now @ weights / size
        weight = weights[:, fits.argmax()]
        if direction * weight[j] <= 0:
            return ""
        leader_and_z = np.c_[now[:, j], now @ weight]
        t_leader, t_clock = robust_regression(later[:, i], leader_and_z).t
        left = abs(t_leader)
        bounced = robust_regression(later[:, i], np.c_[leader_and_z, now[:, i]]).t[1]
        if left < 3 < t_clock - left and bounced > 1.5:  # prices that bounce mimic z too
            return f"{CLOCK}the follower's closes are late, and catch up with all others"
        return ""


def why_untradable(edge, prices: Prices) -> str:
    """Return why a significant lead cannot be traded; empty where it can.

    ``edge`` has the columns of a report's ``details``, as attributes.
    """
    faded = edge.slope_tradable < FADED * edge.slope and edge.p_tradable > LEVEL
    if faded and edge.tradable_share < 0.95:
        return (
            f"{CLOCK}the follower traded in {edge.tradable_share:.0%} of the bars at which it is "
            "known, and nothing is left there"
        )
    if faded:
        return f"{CLOCK}gone at the follower's next open"
    untested = "not testable at tradable prices" if np.isnan(edge.p_tradable) else ""
    symbols = prices.data.symbols
    if edge.lag != 1 or edge.channel not in SIGNED_CHANNELS or edge.leader not in symbols:
        return untested
    pair = symbols.index(edge.leader), symbols.index(edge.follower)
    return prices.explained_by_clocks(*pair, np.sign(edge.effect)) or untested


def _share(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the rows that one has which both have."""
    known = np.isfinite(b)
    return float(np.isfinite(a)[known].mean()) if known.any() else 0.0


def _is_a_bar_off(asset: int, ahead: np.ndarray, same: np.ndarray) -> bool:
    """Whether shifting an asset by one bar makes it move with the others as they do together.

    ``ahead`` (N,) are its covariances with the others a bar apart, ``same`` (N, N) those of the
    same bar.
    """
    scale = np.sqrt(np.diag(same))
    others = np.delete(np.arange(len(same)), asset)
    usual = (same / np.outer(scale, scale))[np.ix_(others, others)]
    usual = np.median(np.abs(usual[np.triu_indices(len(others), 1)]))
    shifted, level = (
        abs(np.median((covariance / scale / scale[asset])[others]))
        for covariance in (ahead, same[asset])
    )
    return bool(max(LATE, 4 * level, 0.5 * usual) < shifted < 1.5 * usual)


def _lateness(later: np.ndarray, now: np.ndarray, asset: int) -> float:
    """t statistic of an asset's next return on the mean of the others' returns."""
    mean = np.delete(now, asset, axis=1).mean(axis=1)
    return float(robust_regression(later, np.c_[mean, now[:, asset]]).t[0])
