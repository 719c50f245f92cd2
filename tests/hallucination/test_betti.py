import numpy as np
import pytest

from dreamorph.hallucination.betti import betti_numbers, euler_characteristic


def grid(n=21):
    axis = np.arange(n) - n // 2
    return np.meshgrid(axis, axis, axis, indexing="ij")


X, Y, Z = grid()
RADIUS = np.sqrt(X**2 + Y**2 + Z**2)
BALL = RADIUS < 6
TORUS = (np.sqrt(X**2 + Y**2) - 6) ** 2 + Z**2 < 6


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (BALL, (1, 0, 0)),
        (TORUS, (1, 1, 0)),
        (BALL & (RADIUS > 3), (1, 0, 1)),
        ((np.sqrt((X - 5) ** 2 + Y**2 + Z**2) < 4) | (np.sqrt((X + 5) ** 2 + Y**2 + Z**2) < 4),
         (2, 0, 0)),
        (BALL & ~((abs(X) < 2) & (abs(Y) < 2)), (1, 1, 0)),
        (TORUS | (RADIUS < 2), (2, 1, 0)),
        # two crossing tunnels have four openings: three independent loops
        (BALL & ~((abs(X) < 2) & (abs(Y) < 2)) & ~((abs(X) < 2) & (abs(Z) < 2)), (1, 3, 0)),
        (np.ones((4, 5, 6), bool), (1, 0, 0)),
        (np.zeros((4, 5, 6), bool), (0, 0, 0)),
    ],
    ids=["ball", "torus", "hollow", "two", "tunnel", "ring and ball", "cross", "full", "empty"],
)  # fmt: skip
def test_known_shapes(shape, expected):
    assert betti_numbers(shape) == expected


def test_voxels_that_share_a_corner_are_one_component():
    shape = np.zeros((4, 4, 4), bool)
    shape[1, 1, 1] = shape[2, 2, 2] = True
    assert betti_numbers(shape) == (1, 0, 0)


def test_corners_of_a_diamond_enclose_a_hole():
    shape = np.zeros((5, 5), bool)
    shape[1, 2] = shape[2, 1] = shape[2, 3] = shape[3, 2] = True
    assert betti_numbers(shape) == (1, 1, 0)


@pytest.mark.parametrize("seed", range(5))
def test_euler_characteristic_adds_up_over_far_apart_parts(seed):
    generator = np.random.default_rng(seed)
    a, b = generator.random((2, 6, 7, 5)) < 0.4
    both = np.concatenate([np.pad(a, 1), np.pad(b, 1)])
    total = euler_characteristic(np.pad(a, 1)) + euler_characteristic(np.pad(b, 1))
    assert euler_characteristic(np.pad(both, 1)) == total


def test_rotation_does_not_matter():
    shape = np.random.default_rng(0).random((8, 9, 7)) < 0.3
    assert betti_numbers(shape) == betti_numbers(shape.transpose(2, 0, 1)[::-1])
