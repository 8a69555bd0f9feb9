"""A stand-in for Bybit, listening, shared by the tests of the cache and of the command."""

import pytest
from standin.scene import make_server


@pytest.fixture
def server():
    with make_server() as running:
        yield running
