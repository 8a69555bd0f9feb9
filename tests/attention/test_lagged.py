"""TemporalCrossAttention against a loop over every query, source and lag, in float64."""

import itertools
import math

import pytest
import torch

from crossattn.attention.lag_signal import ContentLagLayer, IdentityLagLayer
from crossattn.attention.lagged import TemporalCrossAttention, lag_softmax, lag_windows

B, N, T, D, H, MAX_LAG, S = 2, 3, 7, 12, 4, 2, 5
L = MAX_LAG + 1


def make_layer(**options):
    torch.manual_seed(0)
    return perturbed(TemporalCrossAttention(D, H, MAX_LAG, 0.0, **options))


def perturbed(layer):
    """Return a layer in double precision, with noise on parameters that begin as 0 or 1."""
    with torch.no_grad():
        for parameter in layer.double().parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def tokens(seed=1, n=N, steps=T):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, n, steps, D, dtype=torch.float64, generator=generator)


def by_hand(layer, x_query, x_key, allowed, state=None):
    """One query, one head, one step at a time; ``allowed(b, t, i, j, s)`` with s a source step."""
    (_, n_queries, n_steps, _), n_keys, width = x_query.shape, x_key.shape[1], D // H
    output = torch.zeros_like(x_query)
    attention = x_query.new_zeros(B, H, n_steps, n_queries, n_keys, L)
    offset = x_key.shape[2] - n_steps
    for b, t, i in itertools.product(range(B), range(n_steps), range(n_queries)):
        newest = offset + t
        found = [
            (j, k)
            for j, k in itertools.product(range(n_keys), range(min(L, newest + 1)))
            if allowed(b, t, i, j, newest - k)
        ]
        j, k = torch.tensor(found, dtype=torch.long).view(-1, 2).T
        x = x_key[b, j, newest - k]  # (tokens, D)
        query, key = layer.query_projection(x_query[b, i, t]), layer.key_projection(x)
        key, gain = key + layer.lag_embedding[k], layer.gain[i if layer.n_assets else 0]
        if layer.n_assets:
            query, key = query + layer.query_embedding[i], key + layer.key_embedding[j]
        if state is not None:
            gain = gain * (1 + torch.tanh(layer.modulation(state[b, t])))
        value = layer.value_projection(x).unflatten(-1, (H, width))
        value = 2 / (1 + torch.exp(-layer.gate(x)[..., None])) * value  # (tokens, H, width)
        mixed = []
        for h in range(H):
            part = slice(h * width, (h + 1) * width)
            mass = torch.exp(key[:, part] @ query[part] / math.sqrt(width))
            attention[b, h, t, i, j, k] = mass / mass.sum()
            mixed.append(gain[h] * (mass / mass.sum()) @ value[:, h])
        output[b, i, t] = layer.output_projection(torch.cat(mixed))
    return output, attention


@pytest.mark.parametrize("n_steps", [T, 1], ids=["every step", "the last step"])
@pytest.mark.parametrize(
    "options",
    [{}, {"n_assets": N}, {"n_assets": N, "exclude_self": True, "n_states": 2}],
    ids=["content", "asset embeddings", "state and no self"],
)
def test_agrees_with_a_loop(options, n_steps):
    layer = make_layer(**options)
    x, source = tokens(1)[:, :, -n_steps:], tokens(2)
    state = torch.randn(B, n_steps, 2, dtype=torch.float64) if layer.n_states else None

    def allowed(b, t, i, j, s):
        return not (layer.exclude_self and i == j)

    expected, shown = by_hand(layer, x, source, allowed, state)
    output, attention = layer(x, source, state=state)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(attention, shown, rtol=0, atol=1e-12)


def test_gradients_agree_with_the_loop():
    layer = make_layer(n_assets=N)
    x = tokens(1, steps=4).requires_grad_()
    weight = torch.randn(B, N, 4, D, dtype=torch.float64)
    expected, _ = by_hand(layer, x, x, lambda *_: True)
    inputs = [x, *layer.parameters()]
    by_loop = torch.autograd.grad((expected * weight).sum(), inputs, allow_unused=True)
    output, _ = layer(x, x, return_attention=False)
    ours = torch.autograd.grad((output * weight).sum(), inputs, allow_unused=True)
    for mine, theirs in zip(ours, by_loop, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_masks_hide_pairs_and_missing_tokens():
    layer = make_layer()
    queries, sources = tokens(1, n=2), tokens(2, n=5)
    pairs = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]]).bool()
    exists = torch.rand(B, 5, T, generator=torch.Generator().manual_seed(3)) > 0.3
    holed = torch.where(exists[..., None], sources, float("nan"))

    def allowed(b, t, i, j, s):
        return bool(pairs[i, j] and exists[b, j, s])

    expected, shown = by_hand(layer, queries, sources, allowed)
    output, attention = layer(queries, holed, pairs, key_mask=exists)
    fused, _ = layer(queries, holed, pairs, key_mask=exists, return_attention=False)
    torch.testing.assert_close(output, expected.nan_to_num(0.0), rtol=0, atol=1e-12)
    torch.testing.assert_close(attention, shown, rtol=0, atol=1e-12)
    torch.testing.assert_close(fused, output, rtol=0, atol=1e-12)
    assert (attention[:, :, :, 1] == 0).all(), "fully masked rows are 0"


@pytest.mark.parametrize("steps", [0, 4])
@pytest.mark.parametrize("return_attention", [True, False])
def test_queries_of_no_step_have_no_output(steps, return_attention):
    layer, x = make_layer(n_assets=N), tokens(steps=4)
    options = {"return_attention": return_attention}
    output, attention = layer(x[:, :, :0], x[:, :, :steps], **options)
    assert torch.equal(output, layer(x, x, **options)[0][:, :, :0])
    assert attention is None or attention.shape[2] == 0


def test_lag_windows_copy_nothing():
    x = torch.arange(2.0 * 9 * 3 * 4).view(2, 9, 3, 4)
    windows = lag_windows(x, 4, 6)
    assert windows.shape == (2, 6, 4, 3, 4)
    assert windows.flatten(2, 3).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert torch.equal(windows[:, 5, 3], x[:, 8])
    assert torch.equal(windows[:, 0, 0], x[:, 0])


def test_wrong_inputs_are_named(refuse_input):
    refuse_input(lambda: TemporalCrossAttention(10, 4), "d_model")
    refuse_input(lambda: TemporalCrossAttention(8, 2, -1), "max_lag")
    refuse_input(lambda: TemporalCrossAttention(8, 2, 2.0), "max_lag")
    layer = make_layer(n_assets=N)
    refuse_input(lambda: layer(tokens()[0], tokens()), "x_query")
    refuse_input(lambda: layer(tokens(steps=5), tokens(steps=4)), "x_key_value")
    refuse_input(lambda: layer(tokens(n=2), tokens(n=2)), "n_assets")
    longer = torch.ones(B, N, T + 1, dtype=torch.bool)
    refuse_input(lambda: layer(tokens(), tokens(), key_mask=longer), "key_mask")
    refuse_input(lambda: layer(tokens(), tokens(), state=torch.zeros(B, T, 1)), "state")


class TestScalarValues:
    """The recommended layers: the same softmax, with signals themselves as values."""

    def setup_method(self):
        torch.manual_seed(5)
        self.values, self.content = torch.randn(2, B, N, S, dtype=torch.float64)
        self.state = torch.randn(B, 2, dtype=torch.float64)
        self.record = torch.randn(B, H, dtype=torch.float64)
        self.inputs = (self.values, self.content, self.state, self.record)

    def identity(self):
        return perturbed(IdentityLagLayer(N, S, H, 7, 2))

    def test_identity_layer_is_gains_times_gated_values_under_its_attention(self):
        layer = self.identity()
        gate = 2 / (1 + torch.exp(-layer.gate_weight * self.content - layer.gate_bias))
        pulled = torch.einsum("hijk,bjk->bhi", layer.attention(), gate * self.values)
        state = self.state @ layer.state_weight.T + self.record @ layer.record_weight.T
        swing = layer.swing * torch.tanh(state + layer.state_bias)  # (B, H)
        expected = (layer.gain * (layer.base + swing)[:, :, None] * pulled).sum(1)
        torch.testing.assert_close(layer(*self.inputs), expected, rtol=0, atol=1e-12)

    def test_content_layer_agrees_with_one_joint_softmax(self):
        layer = ContentLagLayer(S).double()
        with torch.no_grad():
            layer.content_weight.fill_(1.3)
            layer.content_lag.copy_(torch.randn(S))
            layer.content_self.fill_(0.4)
        scores = layer.content_weight * self.content + layer.content_lag
        expected = torch.zeros(B, N, dtype=torch.float64)
        for i in range(N):
            own = torch.zeros(N, 1, dtype=torch.float64)
            own[i] = layer.content_self
            attention = lag_softmax(scores + own)
            attention[:, i] = 0.0
            expected[:, i] = layer.content_gain * (attention * self.values).sum((1, 2))
        torch.testing.assert_close(layer(*self.inputs), expected)

    def test_content_layer_survives_scores_of_any_size(self):
        layer = ContentLagLayer(S)
        with torch.no_grad():
            layer.content_weight.fill_(1e4)
        assert layer(*(x.float() for x in self.inputs)).isfinite().all()

    def test_coefficients_times_values_are_the_signal(self):
        for layer in (self.identity(), ContentLagLayer(S).double()):
            attention, coefficient = layer.coefficients(*self.inputs[1:])
            signal = (coefficient * self.values[:, None]).sum((-2, -1))
            torch.testing.assert_close(signal, layer(*self.inputs))
            assert (attention.diagonal(dim1=2, dim2=3) == 0).all(), "no asset leads itself"

    def test_both_layers_give_the_same_attention(self):
        """From embeddings alone TemporalCrossAttention gives the same attention."""
        layer = self.identity()
        options = {"n_assets": N, "exclude_self": True}
        general = TemporalCrossAttention(H * 7, H, S - 1, 0.0, **options).double()
        with torch.no_grad():
            for projection in (general.query_projection, general.key_projection):
                projection.weight.zero_()
            general.query_projection.bias.zero_()
            for name in ("query_embedding", "key_embedding", "lag_embedding"):
                own = getattr(layer, name).transpose(0, 1).flatten(1)
                getattr(general, name).copy_(own)
        x = torch.randn(B, N, S, H * 7, dtype=torch.float64)
        _, attention = general(x[:, :, -1:], x)
        torch.testing.assert_close(attention[0, :, 0], layer.attention())
