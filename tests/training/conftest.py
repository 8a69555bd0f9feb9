"""A small planted market, made once for all training tests."""

import pytest
import torch

from crossattn.simulate.market import simulate_market
from crossattn.windows.prepare import prepare_cross_attention_data

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def market():
    return simulate_market("static", n_assets=4, n_steps=1_300, predictability=0.05, seed=3)


@pytest.fixture(scope="session")
def data(market):
    return prepare_cross_attention_data(market.frames, lookback=16, horizon=1)


@pytest.fixture(scope="session")
def parts(data):
    return data.split(train=0.6, val=0.2)
