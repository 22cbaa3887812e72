"""Values and gradients of `interpolate`."""

import numpy as np
import pytest
import torch
import trellis_raster as raster
from trellis_native.testing import assert_same_bits_for_any_thread_count


def random_rast(seed, batch=2, size=(7, 9), num_faces=12, num_vertices=20):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet([1, 1, 1], (batch, *size))
    face = rng.integers(0, num_faces + 1, (batch, *size))
    rast = np.concatenate([weights[..., :2], rng.uniform(-1, 1, (batch, *size, 1)), face[..., None]], -1)
    rast[face == 0] = 0
    faces = rng.integers(0, num_vertices, (num_faces, 3)).astype(np.int32)
    return torch.tensor(rast, dtype=torch.float32), torch.from_numpy(faces)


def dense(rast, faces, num_vertices):
    """[B, pixels, V]: the weight of every vertex at every pixel, so that interpolation is a matrix product."""
    out = torch.zeros(len(rast), rast[0, ..., 0].numel(), num_vertices, dtype=torch.float64)
    for b, image in enumerate(rast.reshape(len(rast), -1, 4).tolist()):
        for p, (u, v, _, face) in enumerate(image):
            if face > 0:
                for corner, weight in zip(faces[int(face) - 1].tolist(), (u, v, 1 - u - v), strict=True):
                    out[b, p, corner] += weight
    return out


def test_by_hand():
    rast = torch.tensor([[[[0.25, 0.5, 0.1, 2.0], [0, 0, 0, 0]]]])
    faces = torch.tensor([[0, 0, 0], [2, 0, 1]], dtype=torch.int32)
    attrs = torch.tensor([[[1.0, -1.0], [10.0, 0.0], [100.0, 4.0]]])
    assert raster.interpolate(attrs, rast, faces).tolist() == [[[[28.0, 0.5], [0.0, 0.0]]]]


@pytest.mark.parametrize("attr_batch", [1, 2])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_values_and_gradient_equal_the_matrix_product(attr_batch, channels):
    rast, faces = random_rast(attr_batch * 10 + channels)
    attrs = torch.randn(attr_batch, 20, channels, requires_grad=True)
    out = raster.interpolate(attrs, rast, faces)
    matrix = dense(rast, faces, 20)
    torch.testing.assert_close(out.double().flatten(1, 2), matrix @ attrs.detach().double(), atol=2e-6, rtol=0)
    grad = torch.randn_like(out)
    out.backward(grad)
    expected = matrix.mT @ grad.double().flatten(1, 2)
    if attr_batch == 1:
        expected = expected.sum(0, keepdim=True)
    torch.testing.assert_close(attrs.grad.double(), expected, atol=1e-5, rtol=0)


def test_constant_attributes_stay_constant():
    rast, faces = random_rast(3)
    out = raster.interpolate(torch.full((1, 20, 1), 7.0), rast, faces)
    torch.testing.assert_close(out[rast[..., 3] > 0], torch.full_like(out[rast[..., 3] > 0], 7.0), atol=2e-6, rtol=0)
    assert (out[rast[..., 3] == 0] == 0).all()


def test_empty_inputs():
    faces = torch.zeros(0, 3, dtype=torch.int32)
    assert (raster.interpolate(torch.zeros(1, 0, 3), torch.zeros(2, 3, 4, 4), faces) == 0).all()
    assert raster.interpolate(torch.zeros(1, 0, 3), torch.zeros(2, 0, 4, 4), faces).shape == (2, 0, 4, 3)
    assert raster.interpolate(torch.zeros(1, 5, 0), torch.zeros(2, 3, 4, 4), faces).shape == (2, 3, 4, 0)
    attrs = torch.zeros(1, 4, 2, requires_grad=True)
    raster.interpolate(attrs, torch.zeros(1, 3, 3, 4), faces).sum().backward()
    assert (attrs.grad == 0).all()


def test_int64_faces_and_strided_attributes():
    rast, faces = random_rast(4)
    attrs = torch.randn(1, 20, 6)[..., ::2]
    assert torch.equal(
        raster.interpolate(attrs, rast, faces.long()), raster.interpolate(attrs.contiguous(), rast, faces)
    )


def test_same_bits_for_any_thread_count():
    rast, faces = random_rast(5, size=(150, 170), num_faces=300, num_vertices=160)
    attrs = torch.randn(1, 160, 3, requires_grad=True)

    def both():
        out = raster.interpolate(attrs, rast, faces)
        return out, torch.autograd.grad(out.square().sum(), attrs)[0]

    assert_same_bits_for_any_thread_count(raster.EXTENSION, both)


RAST, FACES = random_rast(0)
ATTRS = torch.zeros(1, 20, 3)


@pytest.mark.parametrize("face", [13.0, -1.0, 0.5, float("nan"), float("inf"), 1e30])
def test_a_rast_of_another_mesh_is_an_error(face):
    rast = RAST.clone()
    rast[1, 2, 3, 3] = face
    with pytest.raises(ValueError, match=r"rast: pixel 21 of image 1 names face .*, expected 0 to 12"):
        raster.interpolate(ATTRS, rast, FACES)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((ATTRS.half(), RAST, FACES), TypeError, "attrs: expected dtype float32, got float16"),
        ((ATTRS[0], RAST, FACES), ValueError, r"attrs: expected shape \[B, V, C\]"),
        ((ATTRS, RAST[..., :3], FACES), ValueError, r"rast: expected shape \[B, H, W, 4\]"),
        ((ATTRS, RAST.to("meta"), FACES), ValueError, "rast: expected a tensor on cpu"),
        ((ATTRS.expand(3, 20, 3), RAST, FACES), ValueError, "attrs: expected a batch of 1 or 2 like rast, got 3"),
        ((ATTRS, RAST, FACES.float()), TypeError, "faces: expected dtype int32 or int64"),
        ((ATTRS[:, :9], RAST, FACES), ValueError, r"faces: expected vertex indices in \[0, 9\)"),
        ((ATTRS, RAST.clone().requires_grad_(), FACES), ValueError, "rast: requires a gradient"),
    ],
)
def test_arguments_are_checked(arguments, error, text):
    with pytest.raises(error, match=text):
        raster.interpolate(*arguments)
