"""Checks of learners' answers in stages, and a simulated market for each student.

This package may import every other one and none imports it. Names are imported on first use, so
that the environment check runs where the dependencies are missing.
"""

from importlib import import_module

_PARTS = {
    "_stages": ["CheckFailedError"],
    "attention": ["check_attention", "check_multi_head"],
    "lags": ["check_hierarchy", "check_lag_attention", "check_lag_tokens", "check_sector_means"],
    "data": ["check_features", "check_split", "moved_rows"],
    "money": ["check_backtest", "check_metrics", "check_sharpe_loss"],
    "evidence": ["check_false_discovery", "check_p_value"],
    "students": ["market_for", "seed_of", "student_id"],
}
_PART_OF = {name: part for part, names in _PARTS.items() for name in names}

__all__ = sorted(_PART_OF)


def __getattr__(name: str):
    if name not in _PART_OF:
        raise AttributeError(f"module 'crossattn.checks' has no attribute {name!r}")
    value = getattr(import_module(f"crossattn.checks.{_PART_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
