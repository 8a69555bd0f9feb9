"""A small planted market, made once for all training tests, and a stop in the middle of them."""

import itertools

import pytest
import torch

from crossattn.simulate.market import simulate_market
from crossattn.training.loop import Trainer
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


class Interrupted(Exception):
    pass


@pytest.fixture(scope="session")
def interrupt():
    """Give a function: run ``call``, and stop it where a method of training is due ``when``."""

    def run(call, owner: type, name: str, when) -> None:
        method = getattr(owner, name)

        def stop(self, *arguments):
            if when(*arguments):
                raise Interrupted
            return method(self, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, stop)
            with pytest.raises(Interrupted):
                call()

    return run


@pytest.fixture(scope="session")
def interrupt_at(interrupt):
    """Give a function: run ``call``, and stop it before its step ``at``."""

    def run(call, at: int) -> None:
        steps = itertools.count()
        interrupt(call, Trainer, "step", lambda rows: next(steps) == at)

    return run
