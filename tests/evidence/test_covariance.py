"""Scores of covariance forecasts by hand."""

import numpy as np
import pytest

from crossattn.evidence import covariance_loss, diebold_mariano, qlike, score_covariance


@pytest.fixture(scope="module")
def forecasts():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(300, 3, 5))
    truth = root @ root.transpose(0, 2, 1) / 5
    moves = np.einsum("nij,nj->ni", np.linalg.cholesky(truth), rng.normal(size=(300, 3)))
    flat = np.broadcast_to(truth.mean(axis=0), truth.shape)
    return {"flat": flat, "truth": truth}, moves[:, :, None] * moves[:, None]


def test_scores_by_hand(forecasts):
    given, realised = forecasts
    table = score_covariance(given, realised, reference="truth")
    losses = {}
    for name, forecast in given.items():
        rows = []
        for s, r in zip(forecast, realised, strict=True):
            w = np.linalg.inv(s).sum(axis=1) / np.linalg.inv(s).sum()
            rows.append([((s - r) ** 2).mean(), w @ r @ w, s.mean(), r.mean()])
        rows = np.array(rows)
        losses[name] = {
            "gaussian": covariance_loss(forecast, realised),
            "frobenius": rows[:, 0],
            "minimum variance": rows[:, 1],
            "equal weight": qlike(rows[:, 2] ** 0.5, rows[:, 3] ** 0.5),
        }
    for score, own in losses["flat"].items():
        test = diebold_mariano(losses["truth"][score], own)
        assert table.loc[(score, "flat"), "mean"] == pytest.approx(own.mean())
        assert table.loc[(score, "flat"), "t"] == pytest.approx(test.t)
        assert np.isnan(table.loc[(score, "truth"), "t"])
    assert table.loc[("minimum variance", "truth"), "mean"] < own.mean()


def test_an_asset_unknown_in_one_forecast_is_left_out_of_all(forecasts):
    given, realised = forecasts
    holed = {name: forecast.copy() for name, forecast in given.items()}
    holed["flat"][:, 2] = holed["flat"][:, :, 2] = np.nan
    fewer = {name: forecast[:, :2, :2] for name, forecast in given.items()}
    table, wanted = score_covariance(holed, realised), score_covariance(fewer, realised[:, :2, :2])
    np.testing.assert_allclose(table, wanted)
    realised = realised.copy()
    realised[5] = np.nan
    assert np.isfinite(score_covariance(given, realised)["mean"]).all()


def test_wrong_input_is_named(forecasts, refuse_input):
    given, realised = forecasts
    wrong = {"x": -given["flat"]}
    refuse_input(lambda: score_covariance({}, realised), "at least one")
    refuse_input(lambda: score_covariance(given, realised, reference="dcc"), "reference")
    refuse_input(lambda: score_covariance(given, realised[:, :2, :2]), "shape")
    refuse_input(lambda: score_covariance(wrong, realised), "positive definite")
