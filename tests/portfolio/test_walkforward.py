"""Walk-forward: nothing of a fold's test part, and no target that reaches into it, is learned."""

import functools

import numpy as np
import pandas as pd
import pytest

from crossattn import CrossAttentionBacktest, prepare_cross_attention_data, walk_forward
from crossattn.baselines import GARCH, HAR, CovarianceForecaster, EWMACovariance
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.splits import walk_forward_folds

HORIZON = 3


@pytest.fixture
def data(make_frames):
    return prepare_cross_attention_data(make_frames(260, 2), lookback=5, horizon=HORIZON)


class Remembers:
    """Predicts its own training mean; keeps what it was shown."""

    seen: list = []  # noqa: RUF012 - shared on purpose: every fold writes here

    def fit(self, train, val=None):
        self.train, self.val = train, val
        self.seen.append(self)
        self.mean = train.y.mean(axis=0)
        return self

    def predict(self, data):
        return np.tile(self.mean, (len(data), 1))


@pytest.fixture(autouse=True)
def forget():
    Remembers.seen.clear()


SPLITS = [{}, {"embargo": 2}, {"expanding": True}, {"step": 25}]


@pytest.mark.parametrize("options", SPLITS, ids=str)
def test_models_learn_from_the_training_parts_of_the_folds(data, options):
    sizes = {"train_size": 60, "test_size": 30, **options}
    result = walk_forward(data, Remembers, **sizes)
    folds, shown = walk_forward_folds(data, **sizes), result.folds
    for model, fold, start in zip(Remembers.seen, folds, shown["test_start"], strict=True):
        assert model.train.timestamps.equals(fold.train[0].timestamps) and model.val is None
        assert start == fold.test[0].timestamps[0]
    assert len(result.predictions) == len(result.data) == len(result.fold)
    assert result.timestamps[-1] == folds[-1].test[0].timestamps[-1]


def test_predictions_are_those_of_the_fold_that_precedes(data):
    result = walk_forward(data, Remembers, train_size=50, test_size=25)
    for row in (0, 24, 25, 80):
        expected = Remembers.seen[result.fold[row]].mean
        np.testing.assert_array_equal(result.predictions[row], expected)
    assert (np.diff(result.fold) >= 0).all()
    known = np.isfinite(result.data.y).all(axis=1)
    first = (result.fold == 0) & known
    y, forecast = result.data.y[first], result.predictions[first]
    ratio = ((y - forecast) ** 2).mean() / (y**2).mean()
    assert result.folds["mse_ratio"].iloc[0] == pytest.approx(ratio)


def test_validation_is_purged_too(data):
    walk_forward(data, Remembers, train_size=60, test_size=40, val_size=15)
    model = Remembers.seen[0]
    assert (len(model.train), len(model.val)) == (60 - 15 - HORIZON, 15)
    last, first = data.timestamps.get_indexer([model.train.timestamps[-1], model.val.timestamps[0]])
    assert first - last == HORIZON + 1


def test_steps_that_leave_gaps_or_overlap(data):
    apart = walk_forward(data, Remembers, train_size=50, test_size=10, step=25)
    assert np.isnan(apart.predictions[apart.fold == -1]).all()
    assert (apart.fold[:26] == [0] * 10 + [-1] * 15 + [1]).all()
    Remembers.seen.clear()
    over = walk_forward(data, Remembers, train_size=50, test_size=20, step=10)
    np.testing.assert_array_equal(over.predictions[15], Remembers.seen[1].mean)


def test_processes_give_the_same(data):
    one = walk_forward(data, LastReturn, train_size=80, test_size=60)
    two = walk_forward(data, LastReturn, train_size=80, test_size=60, n_jobs=2)
    np.testing.assert_array_equal(one.predictions, two.predictions)
    assert one.folds.equals(two.folds)


class LastReturn:
    """Fits nothing and takes no validation part."""

    def fit(self, train):
        return None

    def predict(self, data):
        return np.asarray(data.X[:, :, -1, 0])


def test_options_by_name_are_no_validation_part(data):
    class HasOptions(LastReturn):
        def fit(self, train, *, weights=None, **others):
            return self

    sizes = {"train_size": 80, "test_size": 60, "val_size": 10}
    found = walk_forward(data, HasOptions, **sizes).predictions
    np.testing.assert_array_equal(found, walk_forward(data, LastReturn, **sizes).predictions)


def test_a_result_trades(data, refuse_input):
    result = walk_forward(data, LastReturn, train_size=80, test_size=60)
    backtest = CrossAttentionBacktest(result, rebalance_freq=1, allow_short=True)
    assert backtest.run(result.data)["timestamp"][:-1].tolist() == list(result.timestamps)
    part = result.data[10:20]
    np.testing.assert_array_equal(result.predict(part), result.predictions[10:20])
    refuse_input(lambda: result.predict(data[:5]), "no fold")


class Says(LastReturn):
    """Predicts ``made`` for every window, and declares what that is."""

    def __init__(self, made, **said):
        self.made = np.array(made)
        self.__dict__ |= said

    def predict(self, data):
        return np.tile(self.made, (len(data), *[1] * self.made.ndim))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([0.25, 0.5], {"output_type": "portfolio"}),
        (
            [[-0.01, 0.01, 0.03], [-0.02, 0.01, 0.04]],
            {"output_type": "distribution", "quantiles": (0.1, 0.5, 0.9)},
        ),
    ],
)
def test_a_result_trades_what_its_models_say_that_they_predict(data, made, said):
    result = walk_forward(data, lambda: Says(made, **said), train_size=80, test_size=60)
    runs = [CrossAttentionBacktest(m).run(result.data) for m in (result, Says(made, **said))]
    pd.testing.assert_frame_equal(*(run.attrs["weights"] for run in runs))


def test_volatility_models_are_scored_against_volatility_and_not_traded(make_frames, refuse_input):
    data = prepare_cross_attention_data(make_frames(500, 2), lookback=5, horizon=HORIZON)
    result = walk_forward(data, HAR, train_size=200, test_size=90)
    tested = result.data[:90]
    error = (result.predictions[:90] - tested.realised_volatility) ** 2
    ratio = error.mean() / (tested.realised_volatility**2).mean()
    assert result.folds["mse_ratio"].iloc[0] == pytest.approx(ratio)
    for model in (result, HAR(), GARCH()):
        refuse_input(lambda model=model: CrossAttentionBacktest(model), "forecasts volatility")
    for model in (CovarianceForecaster(), EWMACovariance()):
        refuse_input(lambda model=model: CrossAttentionBacktest(model), "forecasts covariance")


def test_a_constant_forecast_has_no_correlation(data):
    folds = walk_forward(data, lambda: Says([0.1, 0.1]), train_size=80, test_size=60).folds
    assert folds["correlation"].isna().all() and folds["mse_ratio"].notna().all()


def test_windows_without_times_walk_by_their_rows(data, refuse_input):
    wrap = functools.partial(CrossAttentionData.from_arrays, features=data.features)
    arrays, sizes = wrap(data.X, data.y), {"train_size": 80, "test_size": 60}
    result = walk_forward(arrays, LastReturn, **sizes)
    np.testing.assert_array_equal(result.predictions, arrays.X[-len(result.data) :, :, -1, 0])
    np.testing.assert_array_equal(result.predict(arrays[100:110]), arrays.X[100:110, :, -1, 0])
    refuse_input(lambda: result.predict(arrays[:5]), "no fold")
    refuse_input(lambda: result.predict(wrap(data.X, data.y)), "without times")


def test_the_figure_shows_every_fold(data):
    result = walk_forward(data, LastReturn, train_size=80, test_size=60)
    axes = result.plot()
    assert [len(bars.get_segments()) for bars in axes.collections] == [len(result.folds)] * 2
    assert "correlation" in result._repr_html_()


def test_bad_input_is_refused_by_name(data, refuse_input):
    walk = functools.partial(walk_forward, data, test_size=30)
    refuse_input(lambda: walk(LastReturn, train_size=10_000), "too few")
    refuse_input(lambda: walk(LastReturn, train_size=60, val_size=60), "val_size")
    refuse_input(lambda: walk(3, train_size=60), "make_model")
    words = "make_model must give fit and predict, got int"
    refuse_input(lambda: walk(lambda: 3, train_size=60), words)


@pytest.mark.parametrize("made", [lambda full: full[:-1], lambda full: 0.0])
def test_a_short_prediction_is_refused(data, made, refuse_input):
    class Short(LastReturn):
        def predict(self, data):
            return made(super().predict(data))

    refuse_input(lambda: walk_forward(data, Short, train_size=60, test_size=30), "row a window")
