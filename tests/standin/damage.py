"""Files that were damaged, by a bit or in many other ways."""

from collections.abc import Iterator

import numpy as np


def flipped(data: bytes) -> bytes:
    """Return bytes with one bit in their middle turned."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def corruptions(data: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and damaged versions of a file's bytes, none equal to it."""
    rng, n = np.random.default_rng(11), len(data)
    for number in range(count):
        at, other = sorted(rng.integers(0, n, 2).tolist())
        noise, bit = rng.bytes(int(rng.integers(1, 40))), 1 << int(rng.integers(0, 8))
        places = at, other, n - 1 - number % 400
        flips = [data[:k] + bytes([data[k] ^ bit]) + data[k + 1 :] for k in places]
        spans = [data[:at], data[:at] + data[other:], data[:at] + noise + data[at:], data + noise]
        zeros = data[:at] + bytes(len(data[at : at + 200])) + data[at + 200 :]
        damaged = [*flips, *spans, zeros][number % 8]
        if damaged != data:
            yield f"{number}: kind {number % 8} at {at}", damaged
