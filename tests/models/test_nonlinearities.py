"""Nonlinearities and pursuits by hand, and against slow versions of one token at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from semseg_cli.models.sae.nonlinearities import AbsTopK, GroupMax, Threshold, at_least
from semseg_cli.models.sae.pursuit import MatchingPursuit, OrthogonalPursuit, StoppingPursuit
from semseg_cli.models.sae.scaling import MEAN_LENGTH, ROOT_MEAN_SQUARE, measured_scaling
from semseg_cli.models.sae.weights import fold_whitening


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_farthest_from_0_keep_their_sign() -> None:
    pre = torch.tensor([[1.0, -3.0, 0.5, 2.0]])
    assert AbsTopK(2)(pre).tolist() == [[0.0, -3.0, 0.0, 2.0]]


def test_each_group_keeps_its_largest_above_0() -> None:
    pre = torch.tensor([[1.0, 2.0, -1.0, -2.0, 4.0, 3.0]])
    assert GroupMax(3)(pre).tolist() == [[0.0, 2.0, 0.0, 0.0, 4.0, 0.0]]


@pytest.mark.parametrize("threshold", [0.4, 0.1, 1e-3, 7.0])
def test_at_least_keeps_the_threshold_itself(threshold: float) -> None:
    exact = torch.tensor([threshold])
    below = torch.nextafter(exact, torch.tensor(-torch.inf))
    keeps = Threshold(at_least(threshold))
    assert torch.equal(keeps(exact), exact)
    assert keeps(below).tolist() == [0.0]


# --- pursuits -------------------------------------------------------------------------------------

ROWS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])


def test_matching_pursuit_by_hand() -> None:
    """Products of (3, 1): 3, 1, 2.6; of what is left, (0, 1): 0, 1, 0.8; then all are 0."""
    z = torch.tensor([[3.0, 1.0]])
    assert MatchingPursuit(1).encode(z, ROWS).tolist() == [[3.0, 0.0, 0.0]]
    assert MatchingPursuit(2).encode(z, ROWS).tolist() == [[3.0, 1.0, 0.0]]
    assert MatchingPursuit(3).encode(z, ROWS).tolist() == [[3.0, 1.0, 0.0]]


def test_it_can_choose_a_product_below_0() -> None:
    """Of (-1, -2) the products are -1, -2, -2.2: the largest is the first."""
    assert MatchingPursuit(1).encode(torch.tensor([[-1.0, -2.0]]), ROWS).tolist() == [[-1, 0, 0]]
    assert StoppingPursuit().encode(torch.tensor([[-1.0, -2.0]]), ROWS).tolist() == [[0, 0, 0]]


def test_it_stops_where_little_is_left() -> None:
    z = torch.tensor([[3.0, 1.0], [3.0, 0.2]])
    found = StoppingPursuit(residual_threshold=0.5, max_iterations=2).encode(z, ROWS)
    torch.testing.assert_close(found, torch.tensor([[3.0, 1.0, 0.0], [3.0, 0.0, 0.0]]))
    assert StoppingPursuit(max_iterations=0).encode(z, ROWS).tolist() == [[0, 0, 0]] * 2


def one_token(z: np.ndarray, rows: np.ndarray, spec: StoppingPursuit) -> np.ndarray:
    """The rule as it is told, with a set of the latents that are in use."""
    f, left, before = np.zeros(len(rows)), z.copy(), set[int]()
    most = rows.shape[1] if spec.max_iterations is None else spec.max_iterations
    for _ in range(most):
        products = np.maximum(rows @ left, 0)
        best = int(products.argmax())
        f[best] += products[best]
        left = left - products[best] * rows[best]
        in_use = {i for i in range(len(rows)) if f[i] != 0}
        if spec.stops_on_repeat and in_use == before:
            break
        before = in_use
        if spec.residual_threshold > 0 and np.linalg.norm(left) < spec.residual_threshold:
            break
    return f


@given(
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([None, 1, 3, 9]),
    st.booleans(),
)
def test_stopping_pursuit_is_the_rule_for_each_token(
    seed: int, threshold: float, most: int | None, stops: bool
) -> None:
    spec = StoppingPursuit(threshold, most, stops)
    z, rows = drawn(seed, 7, 5).double(), drawn(seed + 1, 9, 5).double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    found = spec.encode(z, rows).numpy()
    expected = np.stack([one_token(row.numpy(), rows.numpy(), spec) for row in z])
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_orthogonal_pursuit_fits_what_it_chose() -> None:
    """With many steps: the non-negative least squares solution on the chosen rows, (3, 1)."""
    z = torch.tensor([[3.0, 1.0]])
    found = OrthogonalPursuit(2, n_steps=400).encode(z, ROWS)
    torch.testing.assert_close(found, torch.tensor([[3.0, 1.0, 0.0]]))
    assert int((OrthogonalPursuit(3).encode(drawn(0, 20, 2), ROWS) < 0).sum()) == 0


# --- scaling --------------------------------------------------------------------------------------


def test_the_two_norms_by_hand() -> None:
    """Lengths of x - mean are 4, 4, 0, 0: mean 2, root mean square sqrt(8)."""
    x = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert measured_scaling(x, MEAN_LENGTH)[1] == pytest.approx(2 / 2**0.5)
    mean, norm = measured_scaling(x, ROOT_MEAN_SQUARE)
    assert norm == pytest.approx(8**0.5 / 2**0.5)
    assert mean.tolist() == [0.0, 0.0]


@given(st.integers(0, 2**31))
def test_the_root_mean_square_is_the_root_of_the_mean_variance(seed: int) -> None:
    x = drawn(seed, 30, 4)
    expected = float(x.var(dim=0, correction=0).mean().sqrt())
    assert measured_scaling(x, ROOT_MEAN_SQUARE)[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("centres_input", [True, False])
def test_a_folded_whitening_is_whitening_and_back(centres_input: bool) -> None:
    d, s = 4, 7
    weights = (drawn(1, d, s), drawn(2, s), drawn(3, s, d), drawn(4, d))
    mean, matrix, x = drawn(5, d), drawn(6, d, d), drawn(7, 20, d)
    inverse = torch.linalg.inv(matrix)
    W_enc, b_enc, W_dec, b_dec = weights
    z = (x - mean) @ matrix
    f = (z - b_dec * centres_input) @ W_enc + b_enc
    x_hat = (f @ W_dec + b_dec) @ inverse + mean
    W_enc, b_enc, W_dec, b_dec = fold_whitening(
        weights, mean, matrix, inverse, centres_input=centres_input
    )
    folded = (x - b_dec * centres_input) @ W_enc + b_enc
    torch.testing.assert_close(folded, f, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(folded @ W_dec + b_dec, x_hat, rtol=1e-3, atol=1e-3)
