"""File names of symbols: reversible, inside their folder, apart where case does not count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossattn.data.file_names import stem_to_symbol, symbol_to_stem
from crossattn.data.files import read_bars, write_bars
from crossattn.errors import InvalidInputError
from crossattn.simulate.market import simulate_market

SYMBOLS = [
    "BTCUSDT", "btcusdt", "BtcUsdt", "^GSPC", "BRK.B", "EURUSD=X", "BTC/USDT:USDT", "../../etc",
    "..", ".hidden", "CON", "con", "NUL.X", "COM1", "LPT9", "AUX", "a b", "x%41", "%", "100%", "ÄÖ",
    "日経", "e\u0301", "\u00e9", "A\\B", "A:B", "A*B?", "A|B", "<A>", '"A"', "A\nB", "A\tB", "~",
    "-rf", "A.", "A" * 60,
]  # fmt: skip


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_symbol_comes_back_and_stays_in_its_folder(tmp_path, symbol):
    stem = symbol_to_stem(symbol)
    assert stem_to_symbol(stem) == symbol
    assert set(stem) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.%")
    frame = simulate_market(n_assets=2, n_steps=3).frames["A00"]
    (path,) = write_bars({symbol: frame}, tmp_path)
    assert path.parent == tmp_path
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert list(read_bars(tmp_path)) == [symbol]


def test_no_two_symbols_share_a_file_where_case_does_not_count():
    stems = [symbol_to_stem(symbol).casefold() for symbol in SYMBOLS]
    assert len(set(stems)) == len(SYMBOLS)
    devices = ("CON", "PRN", "AUX", "NUL", "COM1", "LPT9")
    assert not {stem.split(".")[0].upper() for stem in stems} & set(devices)


@given(st.text(min_size=1, max_size=20).filter(str.strip), st.text(min_size=1, max_size=20))
def test_names_are_reversible_for_any_text(one, other):
    try:
        stem = symbol_to_stem(one)
    except InvalidInputError:
        assert any(0xD800 <= ord(c) <= 0xDFFF for c in one) or len(one.encode()) > 60
        return
    assert stem_to_symbol(stem) == one
    if other.strip() and other != one and not any(0xD800 <= ord(c) <= 0xDFFF for c in other):
        try:
            assert symbol_to_stem(other).casefold() != stem.casefold()
        except InvalidInputError:
            assert len(other.encode()) > 60


@pytest.mark.parametrize("symbol", ["", "   ", None, 5, "\ud800", "X" * 300])
def test_a_symbol_that_is_no_name_is_refused(symbol, refuse_input):
    refuse_input(lambda: symbol_to_stem(symbol), "symbol")
