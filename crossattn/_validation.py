"""Checks of single values, each with an error that names the argument and what it got."""

from __future__ import annotations

from numbers import Integral, Real

from crossattn.errors import InvalidInputError


def whole(name: str, value: object, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < at_least:
        raise InvalidInputError(f"{name} must be an integer of at least {at_least}, got {value!r}")


def seed_number(name: str, value: object) -> None:
    whole(name, value, at_least=0)
    if value >= 2**63:
        raise InvalidInputError(f"{name} must be below 2**63, got {value!r}")


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float = float("inf"),
) -> None:
    right = isinstance(value, Real) and not isinstance(value, bool) and value < below
    if right and above is not None:
        right = value > above
    if right and at_least is not None:
        right = value >= at_least
    if not right:
        bound = f"above {above}" if above is not None else f"at least {at_least}"
        if below < float("inf"):
            bound += f" and below {below}"
        raise InvalidInputError(f"{name} must be a number {bound}, got {value!r}")


def choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
