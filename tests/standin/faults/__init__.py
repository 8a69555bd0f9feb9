"""The catalogue of faults: what the server does wrong, and what a careful client makes of it.

A fault happens ``once`` (in the first answer: the client must recover and hold exactly the true
candles) or ``always`` (each time: exactly the true candles, or a refusal, or one gap by name).
"""

# the modules enter their faults
from standin.faults import answers, bodies, pages, rows, wire  # noqa: F401
from standin.faults.catalogue import FAULTS as FAULTS
from standin.faults.catalogue import REFUSED as REFUSED
from standin.faults.catalogue import Fault as Fault
