"""One market of every scenario, shared by all tests of the folder."""

import pytest

from crossattn.simulate import SimulatedMarket, simulate_market
from crossattn.simulate.scenarios import SCENARIOS


@pytest.fixture(scope="session")
def markets() -> dict[str, SimulatedMarket]:
    options = {"n_assets": 7, "n_steps": 6_000, "predictability": 0.05}
    return {name: simulate_market(name, seed=8, **options) for name in SCENARIOS}
