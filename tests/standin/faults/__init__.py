"""The catalogue of faults: what the server does wrong, and what a careful client makes of it.

A fault happens ``once`` (in the first answer: the client must recover and hold exactly the true
candles) or ``always`` (each time: exactly the true candles, or a refusal, or one gap by name).
"""

from standin.faults import answers, bodies, pages, rows, wire
from standin.faults.catalogue import EXACT, FAULTS, GAP, NAMED, REFUSED, Fault

__all__ = [
    "EXACT",
    "FAULTS",
    "GAP",
    "NAMED",
    "REFUSED",
    "Fault",
    "answers",
    "bodies",
    "pages",
    "rows",
    "wire",
]
