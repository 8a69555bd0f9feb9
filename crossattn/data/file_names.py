"""File names of symbols: any symbol as a name that every file system keeps apart, and back."""

import re
from urllib.parse import unquote_to_bytes

from crossattn.errors import InvalidInputError

_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\.|$)")
_ESCAPES = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MAX_STEM = 200


def symbol_to_stem(symbol: str) -> str:
    """Return the file name, without ``.csv``, under which ``symbol`` is stored.

    Upper-case letters, digits and ``-_.`` stay; everything else, lower-case letters too, becomes
    ``%XX``, a UTF-8 byte. So no symbol leaves its folder, and two symbols that differ only in case
    stay two files where the file system does not tell them apart.

    Examples
    --------
    >>> symbol_to_stem("BTCUSDT"), symbol_to_stem("^gspc"), symbol_to_stem("../X")
    ('BTCUSDT', '%5E%67%73%70%63', '%2E.%2FX')
    """
    if not isinstance(symbol, str) or not symbol.strip():
        raise InvalidInputError(f"symbols must be non-empty texts, got {symbol!r}")
    try:
        stem = "".join(c if c in _SAFE else _escape(c) for c in symbol)
    except UnicodeEncodeError:
        raise InvalidInputError(f"symbol {symbol!r} is not valid Unicode") from None
    # a leading dot hides a file, and Windows keeps names such as CON for devices
    if stem[0] == "." or _RESERVED.match(stem):
        stem = _escape(stem[0]) + stem[1:]
    if len(stem) > _MAX_STEM:
        raise InvalidInputError(f"symbol {symbol[:40]!r}... is too long for a file name")
    return stem


def stem_to_symbol(stem: str) -> str:
    """Return the symbol stored under a file name; the inverse of :func:`symbol_to_stem`.

    Examples
    --------
    >>> stem_to_symbol("%5EGSPC")
    '^GSPC'
    """
    if _ESCAPES.search(stem):
        raise InvalidInputError(f"file name {stem!r} holds a '%' that starts no %XX escape")
    try:
        return unquote_to_bytes(stem).decode("utf-8")
    except UnicodeError:
        raise InvalidInputError(f"file name {stem!r} is no valid UTF-8 text") from None


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8"))
