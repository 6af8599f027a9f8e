"""The lens: at the last layer it is the model's own head, its slope is a finite difference, refusals."""

import pytest
import torch
from tiny_models import TEXTS

from papercore.models import ModelError, Steer
from papercore.sae.explain import first_order, vocab_projection


def test_at_the_last_layer_the_lens_says_what_the_model_says(model):
    states = model.activations(TEXTS, model.n_layers, position="last")
    assert torch.allclose(model.lens(states), model.logits(TEXTS), atol=1e-3)


def test_many_states_are_read_as_each_alone(model):
    states = torch.randn(300, model.d_model, generator=torch.Generator().manual_seed(0))
    found = model.lens(states)
    assert found.shape == (300, model.vocabulary)
    for row in (0, 255, 256, 299):
        assert torch.allclose(found[row], model.lens(states[row : row + 1])[0], atol=1e-4)


def test_steering_at_the_last_layer_moves_logits_by_the_first_order_projection(model):
    """logits(x + a v) - logits(x), halved between a and -a, is a times the projection, as a goes to 0."""
    x = model.activations(TEXTS[:1], model.n_layers, position="last")[0]
    directions = torch.randn(4, model.d_model, generator=torch.Generator().manual_seed(1))
    directions /= directions.norm(dim=1, keepdim=True)
    found = first_order(model, x, directions)
    small = 1e-2 * float(x.norm())
    for direction, said in zip(directions, found, strict=True):
        moved = [
            model.lens(
                model.activations(TEXTS[:1], model.n_layers, steer=Steer(model.n_layers, direction, sign * small))
            )
            for sign in (1, -1)
        ]
        slope = (moved[0] - moved[1])[0] / (2 * small)
        assert torch.allclose(slope, said, atol=2e-3 * float(said.abs().max()))


def test_vocab_projection_is_the_first_order_effect_of_a_direction_across_the_state(model):
    """Where the norm is RMSNorm and v is orthogonal to x, the slope is lens(v) |v| / |x|."""
    if model.architecture not in ("llama", "qwen2", "gemma", "gemma3_text"):
        pytest.skip("its final norm takes off a mean, or a cap bends its logits")
    x = model.activations(TEXTS[:1], model.n_layers, position="last")[0]
    v = torch.randn(4, model.d_model, generator=torch.Generator().manual_seed(2))
    v -= (v @ x)[:, None] * x / x.square().sum()
    wanted = vocab_projection(model, v) * v.norm(dim=1, keepdim=True) / x.norm()
    assert torch.allclose(first_order(model, x, v), wanted, atol=1e-3 * float(wanted.abs().max()))


def test_what_the_lens_cannot_read_is_refused(model):
    for states in (torch.zeros(3, 5), torch.zeros(model.d_model), torch.zeros(0, model.d_model)):
        with pytest.raises(ModelError, match="the lens takes states"):
            model.lens(states)
