"""Directions: identities, and the mean difference against a peer's."""

import pytest
import torch

from papercore.probes.directions import cosines, mean_cosine, mean_difference, pair_cosines, unit


@pytest.fixture
def vectors():
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.double)


def test_mean_difference_equals_the_mean_aggregator_of_steering_vectors(vectors):
    from steering_vectors.aggregators import mean_aggregator

    positive, negative = vectors + 1, vectors.flip(0) * 2
    expected = mean_aggregator()(positive, negative)
    ours = mean_difference(positive, negative)
    assert (ours - expected).norm() <= 1e-5 * expected.norm()


def test_mean_difference_takes_classes_of_different_size(vectors):
    assert torch.allclose(mean_difference(vectors, vectors[:2]), vectors.mean(0) - vectors[:2].mean(0))


def test_mean_cosine_is_the_mean_of_all_pairs(vectors):
    first, second, value = pair_cosines(vectors)
    assert len(value) == 21 and (first < second).all()
    for i, j, c in zip(first, second, value, strict=True):
        assert torch.isclose(torch.nn.functional.cosine_similarity(vectors[i], vectors[j], dim=0), c)
    assert mean_cosine(vectors) == pytest.approx(float(value.mean()))
    assert mean_cosine(vectors, vectors[:3]) == pytest.approx(float(cosines(vectors, vectors[:3]).mean()))


def test_no_direction_no_cosine(vectors):
    with pytest.raises(ValueError, match="1 of 7 vectors are zero"):
        unit(torch.cat([vectors[:6], torch.zeros(1, 5)]))
    for function in (pair_cosines, mean_cosine):
        with pytest.raises(ValueError, match="two vectors or more"):
            function(vectors[:1])
