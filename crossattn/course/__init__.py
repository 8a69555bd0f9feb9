"""For learners and their teachers: staged checks, markets by student, grading.

Stands beside the rest of the package: it may use any room, and no room uses it.
"""

from crossattn.course.attention import check_attention, check_multi_head
from crossattn.course.data import check_features, check_split, moved_rows
from crossattn.course.evidence import check_false_discovery, check_p_value
from crossattn.course.lags import (
    check_hierarchy,
    check_lag_attention,
    check_lag_tokens,
    check_sector_means,
)
from crossattn.course.money import check_backtest, check_metrics, check_sharpe_loss
from crossattn.course.staged import CheckFailedError
from crossattn.course.students import market_for, seed_of, student_id

__all__ = [
    "CheckFailedError",
    "check_attention",
    "check_backtest",
    "check_false_discovery",
    "check_features",
    "check_hierarchy",
    "check_lag_attention",
    "check_lag_tokens",
    "check_metrics",
    "check_multi_head",
    "check_p_value",
    "check_sector_means",
    "check_sharpe_loss",
    "check_split",
    "market_for",
    "moved_rows",
    "seed_of",
    "student_id",
]
