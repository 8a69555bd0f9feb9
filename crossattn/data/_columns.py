"""Find bars in the columns of a foreign file: names, exports without header, decimal commas."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from crossattn.data._tables import NUMBER, RawTable
from crossattn.errors import InvalidInputError

FIELDS = ("time", "open", "high", "low", "close", "volume")

# What exports call a column, in the order of preference.
_ALIASES = {
    "time": (
        "time timestamp unix unix_timestamp open_time opentime datetime date_time date_utc "
        "time_utc gmt_time local_time start_time start_at starttime window_start ts_event begin "
        "date index_level_0"  # an index without a name, as pandas writes it to Parquet
    ),
    "open": "open o open_price",
    "high": "high h high_price",
    "low": "low l low_price",
    "close": "close c close_price close_last last price",
    "volume": "volume v tickvol tick_volume vol base_volume volumefrom",
    "close_time": "close_time closetime",
    "turnover": "turnover quote_volume quote_asset_volume",
}
_IN_UTC = ("date_utc", "time_utc", "gmt_time")
_CLOCK = re.compile(r"\d{1,2}:\d\d(:\d\d(\.\d+)?)?( ?[AaPp][Mm])?|\d{6}")
_SHORT_CLOCK = re.compile(r"\d{4}")  # only in a column called time: elsewhere it may be a price
# "Volume BTC", but not the average or another figure of a volume that charts add
_VOLUME_OF = re.compile(r"vol(ume)?_(?!([a-z]?ma\d*|avg|average|mean|change|delta|osc\w*)(_|$)).+")
_BINANCE = (*FIELDS, "close_time", "turnover", "trades", "taker_base", "taker_quote", "ignore")
_KRAKEN = (*FIELDS, "trades")
_NULLS = {"", "null", "nan", "none", "n/a", "na", "#n/a", "-", "--"}
_SIZES = {"K": 1e3, "M": 1e6, "B": 1e9}
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", re.ASCII)
_UNUSUAL = re.compile(r"[^0-9eE+.\-]")


def name_columns(
    table: RawTable, columns: Sequence[str] | Mapping[str, str | None] | None
) -> tuple[dict[str, object], bool]:
    """Return the columns of bars by our names, and whether their clock is known to be UTC.

    ``columns`` are the user's own: all names in order, or ``{ours: theirs}``, None for a volume
    that the file does not have.
    """
    names = [_plain(name) for name in table.names]
    wanted = dict(columns) if isinstance(columns, Mapping) else {}
    if columns is not None and not wanted:
        if len(columns) != len(table.columns):
            raise InvalidInputError(
                f"{table.path}: columns must name all {len(table.columns)} columns, got "
                f"{len(columns)}; the first line is {table.shown}"
            )
        names = [_plain(str(name)) for name in columns]
    elif not names:
        names = list(_headless_names(table))
    if table.names[:1] == ("",) and not _candidates(names, "time"):
        names[0] = "time"  # pandas leaves the name of an index empty
    found: dict[str, object] = {}
    in_utc = False
    for field in _ALIASES:
        if field in wanted:
            places = [i for i, name in enumerate(table.names) if name == wanted[field]]
            if wanted[field] is not None and not places:
                raise InvalidInputError(
                    f"{table.path}: columns: there is no {wanted[field]!r} in {table.shown}"
                )
        else:
            places = _candidates(names, field)
        if len(places) > 1:
            name = table.names[places[0]]
            raise InvalidInputError(f"{table.path}: the header repeats column {name!r}")
        if places:
            found[field] = table.columns[places[0]]
            in_utc |= field == "time" and names[places[0]] in _IN_UTC
    _join_clock(table, names, found)
    if wanted.get("volume", "") is None:
        found["volume"] = np.full(len(table.lines), np.nan)
    if missing := [field for field in FIELDS if field not in found]:
        what = "it is" if table.names else "there is none, and the first line is"
        raise InvalidInputError(
            f"{table.path}: the header lacks {','.join(missing)}: {what} {table.shown}; name the "
            f"columns, as in read_bars(folder, columns={_example(table, missing)})"
        )
    return found, in_utc


def parse_numbers(
    table: RawTable, name: str, values: Sequence[str] | np.ndarray, decimal: str
) -> np.ndarray:
    """Return a column as float64, NaN where the cell is empty or says null, or refuse by line."""
    if isinstance(values, np.ndarray):
        numbers = values.astype(np.float64)
    elif not isinstance(values, list):
        table.refuse(0, name, "a number", values[0])
    else:
        try:
            texts = values
            if decimal == ",":  # a point becomes what no plain number holds
                texts = [text.replace(".", "_").replace(",", ".") for text in values]
            if _UNUSUAL.search("".join(texts)):
                raise ValueError("a character that no plain number holds")
            # float() reads every shortest form back exactly
            numbers = np.array([float(text) if text else np.nan for text in texts])
        except ValueError:
            numbers = np.array(
                [_number(table, row, name, text, decimal) for row, text in enumerate(values)]
            )
    table.refuse_first(np.isinf(numbers), name, "a number", values)
    return numbers


def find_decimal(table: RawTable, columns: Sequence, decimal: str | None) -> str:
    """Return the decimal mark of a table: a comma only where no cell can mean anything else."""
    texts = [text for column in columns if isinstance(column, list) for text in column]
    commas = [text.strip() for text in texts if "," in text]
    if decimal is not None or not commas:
        return decimal or "."
    if all(_GROUPED.fullmatch(text.strip("$€£¥KMB ")) for text in commas):
        # 1,234 is a thousand and more where a comma also separates columns, or a point is beside it
        if table.delimiter == "," or any("." in text for text in texts):
            return "."
        raise InvalidInputError(
            f"{table.path}: {commas[0]!r} may be thousands or decimals: read it with "
            "read_bars(folder, decimal=',') or decimal='.'"
        )
    return ","


def _plain(name: str) -> str:
    """Return a name in lower case, words joined by underscores."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")


def _candidates(names: list[str], field: str) -> list[int]:
    """Return where the preferred name of a field stands; twice where the header repeats it."""
    for alias in _ALIASES[field].split():
        if places := [i for i, name in enumerate(names) if name == alias]:
            return places
    if field == "volume":  # "Volume BTC", "Volume USDT": of the asset first, then of the money
        return [i for i, name in enumerate(names) if _VOLUME_OF.fullmatch(name)][:1]
    return []


def _headless_names(table: RawTable) -> Sequence[str]:
    """Return the names of a known export without header, by its width and its first row."""
    first = [column[0].strip() for column in table.columns]
    numbers = [bool(NUMBER.fullmatch(cell)) for cell in first]
    epoch = numbers[0] and first[0].isdecimal() and len(first[0]) >= 9
    if epoch and all(numbers):
        if len(first) == 12 and first[6].isdecimal() and int(first[6]) > int(first[0]):
            return _BINANCE
        if len(first) == 7 and all(text.strip().isdecimal() for text in table.columns[6]):
            return _KRAKEN
    if len(first) == 7 and _CLOCK.fullmatch(first[1]) and all(numbers[2:]):
        return ("date", *FIELDS)  # MetaTrader: date, time, open, ...
    return [""] * len(first)


def _join_clock(table: RawTable, names: list[str], found: dict[str, object]) -> None:
    """Join a column of dates and a column of clocks, as MetaTrader and others write them."""
    if "date" in names and "time" in names:
        dates, clocks = (table.columns[names.index(name)] for name in ("date", "time"))
        first = clocks[0].strip() if isinstance(clocks, list) else ""
        if _CLOCK.fullmatch(first) or _SHORT_CLOCK.fullmatch(first):
            found["time"] = [f"{d} {t}" for d, t in zip(dates, clocks, strict=True)]


def _example(table: RawTable, missing: list[str]) -> str:
    if not table.names:
        return "('time', 'open', 'high', 'low', 'close', 'volume')"
    if missing == ["volume"]:
        return "{'volume': None}"
    return f"{{{missing[0]!r}: 'its name in the file'}}"


def _number(table: RawTable, row: int, name: str, text: str, decimal: str) -> float:
    """Return one number with thousands, a currency or a comma; NaN for a null."""
    if text.strip().lower() in _NULLS:
        return np.nan
    plain, size = text.strip().strip("$€£¥"), 1.0
    if name == "volume" and plain[-1:] in _SIZES:
        plain, size = plain[:-1], _SIZES[plain[-1]]
    other = "." if decimal == "," else ","
    integer, mark, rest = plain.partition(decimal)
    if _GROUPED.fullmatch(integer.replace(other, ",")):
        integer = integer.replace(other, "")
    plain = f"{integer}{'.' if mark else ''}{rest}"
    if other in integer + rest or not NUMBER.fullmatch(plain):
        table.refuse(row, name, "a number", text)
    return float(plain) * size
