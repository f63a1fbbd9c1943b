import numpy as np
import pytest
import torch

from dploss.data.images import open_images
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.pca import PCA


@pytest.fixture(scope="module")
def rows():
    return open_images(image_size=16, limit=200).rows


def test_it_starts_at_pca_there_and_back(rows):
    pca = PCA.fit(rows, 12)
    encoder = ConvAutoencoder(16, 12)
    encoder.initialize_from_pca(pca)
    latents = encoder.encode(rows)
    np.testing.assert_allclose(latents, pca.encode(rows), atol=1e-3)
    with torch.no_grad():
        decoded = encoder.decode(torch.from_numpy(latents)).numpy()
    np.testing.assert_allclose(decoded, pca.encode(rows) @ pca.components + pca.mean, atol=1e-3)


def test_every_weight_learns(rows):
    encoder = ConvAutoencoder(16, 12)
    encoder.initialize_from_pca(PCA.fit(rows, 12))
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    x = torch.from_numpy(rows[:64])
    errors = []
    for _ in range(12):
        error = (encoder.decode(encoder(x)) - x).square().sum(dim=-1).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0]
    assert [name for name, value in encoder.named_parameters() if torch.equal(value, before[name])] == []


@pytest.mark.parametrize("size", [0, 4, 20])
def test_sizes_that_cannot_be_halved_are_refused(size):
    with pytest.raises(ValueError, match="multiple of 8"):
        ConvAutoencoder(size, 4)
