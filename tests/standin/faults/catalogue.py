"""The catalogue itself: what a fault is, and how it is entered."""

from collections.abc import Callable
from dataclasses import dataclass

from standin.bybit import Answer, Ask, BybitStandIn, candle

HOUR = 3_600_000
EXACT, REFUSED, GAP, NAMED = "exact", "refused", "gap", "named"


@dataclass(frozen=True)
class Fault:
    """One way to be wrong.

    Parameters
    ----------
    kind : str
        The class it belongs to.
    name : str
    act : callable
        Changes an answer, given the server and the question.
    once, always : {"exact", "refused", "gap", "named"} or None
        What must come of it: exactly the true candles, a refusal, all but the victim and the victim
        named, or whatever is missing named. None where that form makes no sense.
    """

    kind: str
    name: str
    act: Callable[[BybitStandIn, Ask, Answer], None]
    once: str | None
    always: str | None


FAULTS: list[Fault] = []


def false_candle(start: str, seed: object = 0) -> list[str]:
    """Return a candle of possible values that are not the true ones."""
    return [start, *candle("spot", "OTHER", "60", seed)[1:]]


def fault(kind: str, name: str, *, once: str | None = EXACT, always: str | None = REFUSED):
    """Enter the decorated function into the catalogue."""

    def enter(act):
        FAULTS.append(Fault(kind, name, act, once, always))
        return act

    return enter
