"""Portfolio limits: positions, gross weight, sectors and linear constraints, by cvxpy.

Built in chapter: Portfolio heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from crossattn._validation import check_array, check_bool, check_float, check_mapping, in_order
from crossattn.errors import InvalidInputError, import_optional

if TYPE_CHECKING:
    import cvxpy

SOLVED = ("optimal", "optimal_inaccurate")
ROUNDING = 1e-7  # of a limit that counts as kept
TOO_EXTREME = "weights or limits are too extreme for the solver"
FAR = 100  # times the gross weight: squares of larger ones are too coarse for the solver


@dataclass(frozen=True)
class Limits:
    """Limits of a portfolio's weights, and the nearest weights that keep them.

    Parameters
    ----------
    max_position : float or mapping of symbol to float
        Largest absolute weight of an asset; an asset that a mapping leaves out has none.
    allow_short : bool
    max_gross : float
        Largest sum of absolute weights.
    sectors : mapping of symbol to name, optional
        Every asset's, for the two limits that follow.
    max_sector : float or mapping of sector to float, optional
        Largest gross weight of each sector, or of those in the mapping.
    sector_net : float or mapping of sector to float, optional
        Largest absolute net weight of each sector; 0 is sector neutral.
    linear : mapping of name to (coefficients, low, high)
        ``low <= coefficients @ weights <= high``. Coefficients are a mapping of symbol to float (0
        for others) or one number for all assets: ``{"beta": (betas, 0, 0)}`` is beta neutral,
        ``{"net": (1, -0.1, 0.1)}`` nearly dollar neutral, ``{"invested": (1, 1, 1)}`` fully
        invested.

    Examples
    --------
    >>> limits = Limits(sectors={"A": "x", "B": "x", "C": "y"}, max_sector=0.5)
    >>> limits.nearest([[0.5, 0.3, 0.2]], ["A", "B", "C"]).round(6)
    array([[0.35, 0.15, 0.2 ]])
    """

    max_position: float | Mapping[str, float] = 1.0
    allow_short: bool = False
    max_gross: float = 1.0
    sectors: Mapping[str, str] | None = None
    max_sector: float | Mapping[str, float] | None = None
    sector_net: float | Mapping[str, float] | None = None
    linear: Mapping[str, tuple[float | Mapping[str, float], float, float]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        check_bool("allow_short", self.allow_short)
        check_float("max_gross", self.max_gross, above=0)
        for name in ("max_position", "max_sector", "sector_net"):
            value = getattr(self, name)
            if value is None and name != "max_position":
                continue
            for each in value.values() if isinstance(value, Mapping) else [value]:
                check_float(name, each, at_least=0)
        if self.sectors is None and (self.max_sector, self.sector_net) != (None, None):
            raise InvalidInputError("sectors must name each asset's sector for limits of sectors")
        for name, bounds in check_mapping("linear", self.linear).items() if self.linear else ():
            if not isinstance(bounds, tuple | list) or len(bounds) != 3:
                raise InvalidInputError(
                    f"linear {name!r} must be (coefficients, low, high), got {bounds!r}"
                )
            coefficients, low, high = bounds
            for each in coefficients.values() if isinstance(coefficients, Mapping) else bounds[:1]:
                check_float(f"linear {name!r}", each)
            for each in (low, high):
                if not isinstance(each, Real):
                    raise InvalidInputError(f"linear {name!r} must have bounds, got {each!r}")
            if not low <= high:
                raise InvalidInputError(f"linear {name!r} must have low <= high, got {low}, {high}")

    def nearest(self, weights: ArrayLike, symbols: Sequence[str]) -> np.ndarray:
        """Return the weights nearest to the given ones, by squares, that keep every limit.

        Parameters
        ----------
        weights : array-like of shape (M, N)
            A row a decision, in time order. NaN: no order, so that the asset counts with the weight
            of the row before, 0 at first. Columns of a DataFrame are put in the order of
            ``symbols``. A row beyond 100, or 100 times ``max_gross``, is first scaled down to that.
        symbols : sequence of str
            Names of the columns.

        Returns
        -------
        ndarray of shape (M, N)
            Rows that keep the limits as they are, unchanged; the others keep them to 1e-6. All NaN
            where only the assets without an order stand in the way: nothing is ordered then.

        Raises
        ------
        InvalidInputError
            A weight is infinite, a limit names an unknown symbol or sector, an asset has no sector,
            or the limits cannot hold together: those that are in each other's way are named.
        MissingDependencyError
            cvxpy is not installed (``pip install "crossattn[data]"`` brings it with skfolio).
        """
        weights = in_order("weights", weights, symbols)
        weights = check_array("weights", weights, (None, len(symbols))).copy()
        if np.isinf(weights).any():
            raise InvalidInputError(
                "weights must be finite, or NaN for no order, got infinite ones"
            )
        far = FAR * max(1.0, self.max_gross)
        weights *= far / np.fmax.reduce(np.abs(weights), axis=1, keepdims=True, initial=far)
        rows, held = self._rows(symbols), np.zeros(len(symbols))
        solve = None
        for decided in weights:
            known = ~np.isnan(decided)
            wanted = np.where(known, decided, held)
            if known.any() and not _kept(wanted, rows):
                solve = solve or _solver(rows, len(symbols))
                if (found := solve(wanted, known)) is None:
                    self.check(symbols)  # raises where they cannot hold with all assets
                    if known.all():
                        raise InvalidInputError(TOO_EXTREME)
                    found = np.full(len(symbols), np.nan)
                decided[:] = np.where(known, found, np.nan)
            held = np.where(np.isnan(decided), held, decided)
        return weights

    def check(self, symbols: Sequence[str]) -> None:
        """Raise, naming a smallest set of limits that cannot hold together, if there is one."""
        cvxpy = import_optional("cvxpy", "Limits", "data")
        chosen, rows = cvxpy.Variable(len(symbols)), self._rows(symbols)

        def feasible(some: list[tuple]) -> bool:
            return _solved(cvxpy.Problem(cvxpy.Minimize(0), _constraints(chosen, some)))

        if feasible(rows):
            return
        for row in list(rows):  # leave out what the others contradict without
            fewer = [other for other in rows if other is not row]
            if not feasible(fewer):
                rows = fewer
        names = " and ".join(dict.fromkeys(name for name, *_ in rows))
        raise InvalidInputError(f"limits cannot hold together: {names}")

    def box(self, symbols: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the largest weight of each symbol, (N,) each."""
        most = _by_name("max_position", self.max_position, list(symbols))
        high = np.array([most.get(symbol, np.inf) for symbol in symbols])
        return (-high if self.allow_short else np.zeros(len(high))), high

    def constraints(self, chosen: cvxpy.Variable, symbols: Sequence[str]) -> list:
        """Return the limits as cvxpy constraints of a variable of shape (N,)."""
        return _constraints(chosen, self._rows(symbols))

    def _rows(self, symbols: Sequence[str]) -> list[tuple]:
        """Every limit as (name, coefficients (N,), low, high, whether of absolute weights)."""
        symbols = list(symbols)
        each = np.eye(len(symbols))
        rows = []
        suffix = "" if self.allow_short else " without shorts"
        for symbol, vector, low, high in zip(symbols, each, *self.box(symbols), strict=True):
            if np.isfinite(low) or np.isfinite(high):
                rows.append((f"max_position of {symbol!r}{suffix}", vector, low, high, False))
        rows.append(("max_gross", np.ones(len(symbols)), -np.inf, self.max_gross, True))
        if self.sectors is not None:
            if missing := [symbol for symbol in symbols if symbol not in self.sectors]:
                raise InvalidInputError(f"sectors lack {', '.join(map(str, missing))}")
            names = np.array([str(self.sectors[symbol]) for symbol in symbols])
            sectors = list(dict.fromkeys(names))
            for kind, limit, gross in (
                ("max_sector", self.max_sector, True),
                ("sector_net", self.sector_net, False),
            ):
                of_sectors = {} if limit is None else _by_name(kind, limit, sectors)
                for sector, most in of_sectors.items():
                    members = (names == sector) * 1.0
                    rows.append((f"{kind} of {sector!r}", members, -most, most, gross))
        for name, (coefficients, low, high) in self.linear.items():
            given = _by_name(f"linear {name!r}", coefficients, symbols)
            vector = np.array([given.get(symbol, 0.0) for symbol in symbols])
            rows.append((f"linear {name!r}", vector, float(low), float(high), False))
        return rows


def _by_name(argument: str, value: float | Mapping, names: Sequence[str]) -> dict[str, float]:
    """Return a number for every name, or a mapping whose names are known."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, float(value))
    if unknown := [name for name in value if name not in names]:
        raise InvalidInputError(f"{argument} names {unknown[0]!r}, which is none of {list(names)}")
    return {name: float(limit) for name, limit in value.items()}


def _kept(weights: np.ndarray, rows: list[tuple]) -> bool:
    """Whether weights (N,) keep all limits."""
    values = (((np.abs(weights) if row[4] else weights) @ row[1], *row[2:4]) for row in rows)
    return all(low - ROUNDING <= value <= high + ROUNDING for value, low, high in values)


def _solver(rows: list[tuple], n_assets: int) -> Callable:
    """Return a function of (wanted, known), (N,) each: the nearest weights, None without any."""
    cvxpy = import_optional("cvxpy", "Limits", "data")
    chosen, target = cvxpy.Variable(n_assets), cvxpy.Parameter(n_assets)
    waiting, held = cvxpy.Parameter(n_assets, nonneg=True), cvxpy.Parameter(n_assets)
    kept = [*_constraints(chosen, rows), cvxpy.multiply(waiting, chosen) == held]
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(chosen - target)), kept)

    def solve(wanted: np.ndarray, known: np.ndarray) -> np.ndarray | None:
        target.value, waiting.value, held.value = wanted, 1.0 - known, np.where(known, 0, wanted)
        return chosen.value if _solved(problem) else None

    return solve


def _solved(problem: cvxpy.Problem) -> bool:
    import cvxpy

    try:
        problem.solve(solver="CLARABEL")
    except cvxpy.SolverError:
        raise InvalidInputError(TOO_EXTREME) from None
    return problem.status in SOLVED


def _constraints(chosen: cvxpy.Variable, rows: list[tuple]) -> list:
    import cvxpy

    made = []
    for _, vector, low, high, gross in rows:
        value = cvxpy.norm1(cvxpy.multiply(vector, chosen)) if gross else vector @ chosen
        if low == high and not gross:
            made.append(value == high)
            continue
        if np.isfinite(high):
            made.append(value <= high)
        if np.isfinite(low) and not gross:
            made.append(value >= low)
    return made
