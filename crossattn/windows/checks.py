"""Checks of windows as arguments: what they are, when they begin, that a model can read them."""

from collections.abc import Sequence

from crossattn._validation import check_same_names, check_type
from crossattn.errors import InvalidInputError
from crossattn.windows.dataset import CrossAttentionData


def check_windows(name: str, data: object) -> None:
    """Refuse what is not a CrossAttentionData with at least one window."""
    wanted = "CrossAttentionData, as prepare_cross_attention_data(bars, ...) makes it"
    check_type(name, data, CrossAttentionData, wanted)
    if not len(data):
        raise InvalidInputError(f"{name} holds no window")


def check_later(
    name: str, later: CrossAttentionData, before: str, earlier: CrossAttentionData
) -> None:
    """Refuse what are no windows, or windows that do not all end after those called ``before``.

    Windows of arrays have no times: parts of the same ones are told apart by their rows, others
    pass.
    """
    check_windows(before, earlier)
    check_windows(name, later)
    if not (later.clock.hasnans or earlier.clock.hasnans):
        begin, end = later.timestamps[0], earlier.timestamps[-1]
    elif later.panel is earlier.panel:
        begin, end = int(later.ends[0]), int(earlier.ends[-1])
    else:
        return
    if begin <= end:
        raise InvalidInputError(
            f"{name} must be later than {before}: {name}'s first window ends at {begin}, "
            f"{before}'s last one at {end}"
        )


def match_training(
    name: str, data: CrossAttentionData, symbols: Sequence[str], features: Sequence[str]
) -> CrossAttentionData:
    """Return the data with the symbols and features of training, in their order, or refuse it."""
    check_same_names(f"{name}: symbols", data.symbols, symbols)
    if missing := [feature for feature in features if feature not in data.features]:
        raise InvalidInputError(f"{name} lacks the model's feature {missing[0]!r}")
    return data.select(symbols, features)
