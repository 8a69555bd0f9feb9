"""A simulated market for every student, seeded by the student's id."""

import hashlib
import os

from crossattn.errors import InvalidInputError
from crossattn.simulate.market import SimulatedMarket, simulate_market

STUDENT_VARIABLE = "CROSSATTN_STUDENT"


def student_id(claimed: str) -> str:
    """Return the student's id: while grading, the name of the submission, whatever was claimed.

    Examples
    --------
    >>> student_id(" ada ")
    'ada'
    """
    name = (os.environ.get(STUDENT_VARIABLE) or str(claimed)).strip()
    if not name:
        raise InvalidInputError("student must be an id of at least one character, got an empty one")
    return name


def seed_of(student: str, assignment: str, term: str) -> int:
    """Seed of one student's data: the same id, assignment and term give the same market.

    Returns
    -------
    int
        Below 2**31, from SHA-256, so the same on every machine and Python.

    Examples
    --------
    >>> seed_of("ada", "ps3", "open")
    1484964750
    >>> seed_of("ada", "ps3", "open") == seed_of("ada", "ps3", "next")
    False
    """
    text = "\x1f".join([term, assignment, student]).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") >> 1


def market_for(
    student: str, assignment: str, term: str, scenario: str = "static", **options
) -> SimulatedMarket:
    """Simulate the market of one student in one assignment and term.

    Parameters
    ----------
    student, assignment, term : str
        See :func:`seed_of`; ``student`` is passed through :func:`student_id`.
    scenario : str
        See :func:`crossattn.simulate_market`, also for ``options``.

    Returns
    -------
    SimulatedMarket
        Its ``edges`` and ``oracle`` are the truth that the grader compares with.

    Examples
    --------
    >>> market_for("ada", "ps3", "open", n_assets=4, n_steps=500).symbols
    ['A00', 'A01', 'A02', 'A03']

    Built in chapter: The simulated market
    """
    seed = seed_of(student_id(student), assignment, term)
    return simulate_market(scenario, seed=seed, **options)
