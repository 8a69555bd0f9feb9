"""The network: shapes, scaling, presets, what attention adds up to, what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy import stats

from crossattn.config import (
    CROSS_ATTENTIONS,
    DEFAULT_FEATURES,
    OUTPUT_TYPES,
    ModelConfig,
    TrainingConfig,
)
from crossattn.model.heads import PortfolioHead, QuantileHead
from crossattn.model.network import CrossAttentionMultiAsset

B, N, T, F = 3, 4, 14, 7
LABELS = {"sectors": tuple("aabb"), "markets": tuple("xxxy")}
PRESETS = [
    {"preset": "lag"},
    {"preset": "encoder"},
    {"preset": "encoder", "cross": "asset", "embedding": "conv"},
    {"preset": "encoder", "cross": "routed"},
    {"preset": "encoder", "cross": "hierarchical", **LABELS},
    {"preset": "inverted", "lookback": T},
    {"preset": "encoder", "per_asset_embedding": True},
    {"preset": "encoder", "embedding": "conv", "per_asset_embedding": True},
    {"preset": "inverted", "lookback": T, "per_asset_embedding": True},
]


def windows(seed=0, batch=B):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, N, T, F)).astype(np.float32)
    x[..., DEFAULT_FEATURES.index("log_return")] *= 0.01
    x[..., DEFAULT_FEATURES.index("range")] = 0.01 * np.exp(x[..., 2])
    return torch.from_numpy(x)


def make(output_type="regression", n_layers=3, **options):
    model = CrossAttentionMultiAsset(N, F, 16, 2, n_layers, 0.1, output_type, seed=0, **options)
    panel = windows(1, batch=20).transpose(1, 2).flatten(0, 1)  # (R, N, F)
    model.body.fit_scaling(panel.transpose(0, 1)[None], T)
    return model.eval()


@pytest.mark.parametrize("options", PRESETS, ids=str)
@pytest.mark.parametrize("output_type", OUTPUT_TYPES)
def test_every_preset_gives_every_output(options, output_type):
    model = make(output_type, **options)
    predictions, attentions = model(windows(), return_attention=True)
    of_an_asset = {"classification": (3,), "distribution": (5,)}.get(output_type, ())
    assert predictions.shape == (B, N, *of_an_asset)
    assert torch.equal(model(windows()), predictions)
    assert len(attentions) == 3
    for layer in attentions:
        total = layer["cross_asset"].sum(-1)
        assert layer["cross_asset"].shape == (B, 2, N, N)
        torch.testing.assert_close(total, torch.ones_like(total))
        own = layer["cross_asset"].diagonal(dim1=-2, dim2=-1)
        assert options.get("cross") in ("routed", "hierarchical") or not own.any()
        if "lag" in layer:
            assert layer["lag"].shape == (B, 2, N, N, 8)
            torch.testing.assert_close(layer["lag"].sum(-1), layer["cross_asset"])


@pytest.mark.parametrize("options", PRESETS, ids=str)
def test_missing_inputs_give_finite_outputs_and_gradients(options):
    model = make(**options)
    x = windows()
    x[0, 1] = float("nan")
    x[1, :, -1] = float("nan")
    x[2] = float("nan")
    x[0, 2, 3, 0] = float("inf")
    predictions, attentions = model(x, return_attention=True)
    assert predictions.isfinite().all()
    for layer in attentions:
        assert all(map.isfinite().all() for map in layer.values())
    predictions.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("options", PRESETS[1:5], ids=str)
@pytest.mark.parametrize("n_steps", [T, 3])
def test_the_last_layer_answers_the_last_step_as_it_would_among_all(options, n_steps):
    """In double precision; with bars that are missing, and windows shorter than the lags."""
    body = make(**options).double().body
    x = windows()[:, :, -n_steps:].double()
    x[1, 2, -2:] = torch.nan
    inputs = body.read(x, n_steps)
    tokens = body.positions(body.embedding(inputs.windows)) + body.asset_embedding
    for layer in body.layers:
        tokens, shown = layer(tokens, inputs.present, last_step=False, show=True)
    expected = body.readout(body.norm(tokens[:, :, -1]))
    torch.testing.assert_close(body(inputs), expected, rtol=1e-10, atol=1e-12)
    last = body.attention_maps(inputs)[-1]
    for name, attention in shown.items():
        torch.testing.assert_close(last[name], attention, rtol=1e-10, atol=1e-12)


def test_a_missing_source_gets_no_attention_and_an_empty_row_none_at_all():
    model = make()
    x = windows()
    x[0, 1, :, 0] = float("nan")
    x[2, ..., 0] = float("nan")
    _, attentions = model(x, return_attention=True)
    for layer in attentions:
        assert (layer["cross_asset"][0, :, :, 1] == 0).all()
        assert (layer["cross_asset"][2] == 0).all()
        rows = layer["cross_asset"][0].sum(-1)
        torch.testing.assert_close(rows, torch.ones_like(rows))
    assert (attentions[-1]["coefficient"][0, :, 1] == 0).all()


def trained_like(model):
    """Move every parameter away from its neutral start."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        model.target_scale.copy_(torch.tensor([0.01, 0.02, 0.03, 0.04]))
        model.head.intercept.copy_(torch.tensor([0.001, 0.0, 0.002, 0.0]))
    return model


def test_contributions_and_the_intercept_are_the_prediction():
    model = trained_like(make())
    x = windows()
    predictions, attentions = model(x, return_attention=True)
    last = attentions[-1]
    total = last["contribution"].sum((-2, -1)) + model.head.intercept
    torch.testing.assert_close(total, predictions, rtol=1e-4, atol=1e-8)
    newest_first = x[..., 0].flip(-1)[..., :8]  # (B, N, L) log returns
    by_hand = last["coefficient"] * newest_first[:, None]
    torch.testing.assert_close(by_hand, last["contribution"], rtol=1e-4, atol=1e-9)


def test_a_coefficient_is_the_derivative_of_the_prediction():
    """Of the newest return of one source, all that depends on it otherwise held."""
    model = trained_like(make(features=tuple(DEFAULT_FEATURES)))
    inputs = model.read(windows(), T)
    values = inputs.values.clone().requires_grad_()
    held = dataclasses.replace(inputs, values=values)
    prediction, attentions = model.predict_batch(held, return_attention=True)
    for i in range(N):
        slope = torch.autograd.grad(prediction[:, i].sum(), values, retain_graph=True)[0]
        slope = slope.flip(-1) / model.body.preprocessor.value_scale[:, None]
        torch.testing.assert_close(attentions[-1]["coefficient"][:, i], slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", PRESETS, ids=str)
def test_a_panel_and_its_windows_give_one_answer(options):
    """Steps of a panel, read once, equal the last step of each of their windows."""
    model = trained_like(make(**options))
    panel = windows(5, batch=6).transpose(1, 2).flatten(0, 1)  # (84, N, F)
    panel[30, 2] = float("nan")
    ends = torch.arange(T - 1, len(panel))
    cut = torch.stack([panel[e - T + 1 : e + 1] for e in ends]).transpose(1, 2)
    batch, some = model.read(panel.transpose(0, 1)[None], T), torch.arange(0, len(ends), 3)
    expected = model(cut)
    torch.testing.assert_close(model.predict_batch(batch), expected, rtol=1e-4, atol=1e-5)
    taken = model.predict_batch(batch.take(some))
    torch.testing.assert_close(taken, expected[some], rtol=1e-4, atol=1e-5)


def test_the_seed_makes_the_weights_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    first, second = (CrossAttentionMultiAsset(N, F, seed=4) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    other = CrossAttentionMultiAsset(N, F, seed=5)
    assert not torch.equal(
        first.body.layers[-1].query_embedding, other.body.layers[-1].query_embedding
    )


def test_channels_that_have_no_names_are_log_returns_and_others():
    model = CrossAttentionMultiAsset(N, 3, seed=0).eval()
    assert model.config.channels == ("log_return", "feature_1", "feature_2")
    assert model(windows()[..., :3]).isfinite().all()


class TestHeads:
    def test_positions_hold_their_limit_after_normalisation(self):
        scores = 50 * torch.randn(40, N, 1, generator=torch.Generator().manual_seed(1))
        scale = torch.ones(N)
        for limit in (0.1, 0.4, 1.0):
            long = PortfolioHead(max_position=limit)(scores, scale)
            short = PortfolioHead(allow_short=True, max_position=limit)(scores, scale)
            assert (long >= 0).all() and (long <= limit).all() and (long.sum(-1) <= 1 + 1e-6).all()
            assert (short.abs() <= limit).all() and (short.abs().sum(-1) <= 1 + 1e-6).all()
            assert (short < 0).any()
        cash = PortfolioHead(allow_short=True)(torch.zeros(2, N, 1), scale)
        assert (cash == 0).all(), "no conviction is cash"

    def test_long_only_is_a_softmax_with_cash(self):
        scores = torch.tensor([[[0.0], [1.0], [2.0]]])
        weights = PortfolioHead()(scores, torch.ones(3))
        expected = torch.tensor([1.0, np.e, np.e**2]) / (2 + np.e + np.e**2)
        torch.testing.assert_close(weights[0], expected.float())

    def test_quantiles_never_cross_and_start_as_those_of_a_normal_law(self):
        levels = (0.01, 0.05, 0.6, 0.9)
        raw = 5 * torch.randn(30, N, 5, generator=torch.Generator().manual_seed(2))
        volatility = torch.rand(30, N) + 0.5
        quantiles = QuantileHead(levels)(raw, volatility)
        assert (quantiles.diff(dim=-1) > 0).all()
        start = QuantileHead(levels)(0 * raw, volatility) / volatility[..., None]
        normal = torch.tensor(stats.norm.ppf(levels)).float().expand_as(start)
        torch.testing.assert_close(start, normal, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("preset", ["lag", "encoder"])
    def test_quantiles_are_as_wide_as_the_bars_are_wild(self, preset):
        model = make("distribution", preset=preset)
        for parameter in model.body.readout.parameters():
            torch.nn.init.zeros_(parameter)
        wild = windows()
        wild[..., DEFAULT_FEATURES.index("log_return")] *= 3
        torch.testing.assert_close(model(wild), 3 * model(windows()))


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ({"n_assets": 1}, "n_assets"),
            ({"n_features": 0}, "n_features"),
            ({"d_model": 10, "n_heads": 4}, "d_model"),
            ({"dropout": 1.0}, "dropout"),
            ({"dropout": float("nan")}, "dropout"),
            ({"output_type": "up"}, "output_type"),
            ({"preset": "rnn"}, "preset"),
            ({"max_lag": -1}, "max_lag"),
            ({"max_position": 0.0}, "max_position"),
            ({"quantiles": (0.5, 0.1)}, "quantiles"),
            ({"quantiles": ()}, "quantiles"),
            ({"quantiles": 0.5}, "quantiles"),
            ({"symbols": (*"abcd"[:N], "a")}, "symbols"),
            ({"symbols": 3}, "symbols"),
            ({"features": 3}, "features"),
            ({"features": ("a", "a", "c", "d", "e", "f", "g")}, "features"),
            ({"features": ("log_return",)}, "features"),
            ({"n_features": 2, "features": ("rsi", "macd")}, "log_return"),
            ({"preset": "inverted"}, "lookback"),
            ({"preset": "encoder", "cross": "hierarchical"}, "sectors"),
            ({"preset": "encoder", "cross": "hierarchical", "sectors": 3}, "sectors"),
        ],
    )
    def test_wrong_options_are_named(self, options, word, refuse_input):
        options = {"n_assets": N, "n_features": F, **options}
        refuse_input(lambda: CrossAttentionMultiAsset(**options), word)

    def test_wrong_windows_are_named(self, refuse_input):
        model = make()
        refuse_input(lambda: model(windows()[:, :2]), "x must have shape")
        refuse_input(lambda: model(windows().numpy()), "x must be a tensor, got ndarray")
        assert torch.equal(model(windows().double()), model(windows()))
        refuse_input(lambda: model(windows()[:, :, :7]), "lookback must be above max_lag=7")

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ({"epochs": 0}, "epochs"),
            ({"lr": -1.0}, "lr"),
            ({"warmup": 1.0}, "warmup"),
            ({"momentum": 0.9}, "momentum"),
            ({"schedule": "linear"}, "schedule"),
            ({"plateau_patience": 0}, "plateau_patience"),
            ({"plateau_factor": 1.0}, "plateau_factor"),
            ({"lr_factors": {"gain": -5.0}}, "lr_factors: 'gain'"),
        ],
    )
    def test_wrong_recipes_are_named(self, options, word, refuse_input):
        refuse_input(lambda: TrainingConfig().with_options(**options), word)


def test_a_configuration_survives_json():
    config = ModelConfig(np.int64(3), 2, features=("log_return", "range"), quantiles=(0.1, 0.9))
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


class TestStateDict:
    """A load_state_dict round trip gives equal forecasts, or refuses."""

    def made(self, **options):
        return CrossAttentionMultiAsset(N, F, **{"d_model": 16, "n_heads": 2, "seed": 0, **options})

    @pytest.mark.parametrize("options", PRESETS, ids=str)
    def test_what_training_filled_in_comes_along(self, options):
        net, new = trained_like(make(**options)), self.made(seed=9, n_layers=3, **options).eval()
        symbols, names = tuple("WXYZ"), ("range", "log_return", *"abcde")
        net.update_config(symbols=symbols, features=names, lookback=T, horizon=4)
        assert not torch.equal(new(windows()), net(windows()))
        new.load_state_dict(net.state_dict())
        assert torch.equal(new(windows()), net(windows())) and net(windows()).isfinite().all()
        filled = new.symbols, new.features, new.lookback, new.horizon
        assert filled == (symbols, names, T, 4)

    def test_a_forecast_of_four_steps_is_not_one_of_a_single_step(self):
        net = trained_like(self.made()).eval()
        one = net(windows())
        net.update_config(horizon=4)
        assert not torch.allclose(net(windows()), one, rtol=0.1)

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ({"max_lag": 3}, "max_lag"),
            ({"n_heads": 4}, "n_heads"),
            ({"output_type": "portfolio"}, "output_type"),
            ({"features": DEFAULT_FEATURES[::-1]}, "features"),
        ],
    )
    def test_another_model_refuses(self, options, word, refuse_input):
        refuse_input(lambda: self.made(**options).load_state_dict(self.made().state_dict()), word)

    def test_a_state_without_a_configuration_is_refused(self):
        state = self.made().state_dict()
        del state["_extra_state"]
        with pytest.raises(RuntimeError, match="_extra_state"):
            self.made().load_state_dict(state)


@pytest.mark.parametrize(
    "options",
    [
        {"output_type": "classification"},
        {"output_type": "portfolio", "features": ("log_return", *"abcdef")},  # no range
        *({"preset": "encoder", "cross": cross, **LABELS} for cross in CROSS_ATTENTIONS),
    ],
    ids=str,
)
def test_an_exported_model_gives_the_same_answer(options):
    """The lag preset for any number of windows, encoders for as many as were exported."""
    model, dynamic = make(n_layers=1, **options), "preset" not in options
    batch = torch.export.Dim("batch", min=2) if dynamic else None
    program = torch.export.export(model, (windows(),), dynamic_shapes={"x": {0: batch}})
    x = windows(2, batch=9 if dynamic else B)
    x[2, 1, 5:9] = torch.nan
    with torch.no_grad():
        assert torch.equal(program.module()(x), model(x))


@pytest.mark.filterwarnings("ignore")  # of the exporter's own making
@pytest.mark.parametrize("name", ["lag", "encoder", "inverted"])
def test_onnx_gives_the_same_answer(name, tmp_path):
    """The lag preset for any number of windows, the others for one at a time."""
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    kind = "distribution" if name == "lag" else "regression"
    model, x = make(kind, n_layers=1, preset=name, lookback=T), windows(2, batch=9)
    x[2, 1, 5:9] = torch.nan
    x[3] = torch.nan
    batch, given, parts = None, x[:1], x.split(1)
    if name == "lag":
        batch, given, parts = torch.export.Dim("batch", min=2), x[:5], [x]
    path, shapes = tmp_path / "model.onnx", {"x": {0: batch}}
    torch.onnx.export(model, (given,), path, dynamic_shapes=shapes, verbose=False)
    session = runtime.InferenceSession(path)
    found = np.concatenate([session.run(None, {"x": part.numpy()})[0] for part in parts])
    with torch.no_grad():
        np.testing.assert_allclose(found, model(x).numpy(), rtol=1e-4, atol=1e-6)
