"""Which encoding rule a silent file was trained with: measured on its input."""

import pytest
import torch
from torch import Tensor
from worlds import make_sae

from semseg_cli.models.sae import SparseAutoencoder, choose_centring, reconstruction_error

D = 8


def planted(centres_input: bool) -> tuple[SparseAutoencoder, Tensor]:
    """An autoencoder that is exact under one rule, as its silent file gives it, and its data."""
    W_dec = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(2))).Q
    b_dec = torch.linspace(-3, 3, D)
    f = torch.rand(50, D, generator=torch.Generator().manual_seed(3)) + 0.1
    x = f @ W_dec + b_dec
    b_enc = torch.zeros(D) if centres_input else -(b_dec @ W_dec.T)
    return SparseAutoencoder(W_dec.T, b_enc, W_dec, b_dec, centres_input=None), x


@pytest.mark.parametrize("centres_input", [True, False])
def test_the_rule_that_reconstructs_better_is_taken(centres_input: bool) -> None:
    sae, x = planted(centres_input)
    chosen, sentence = choose_centring(sae.recentred(False), sae.recentred(True), x)
    assert chosen.centres_input is centres_input
    assert reconstruction_error(chosen, x) < 1e-9
    assert ("so it is subtracted" if centres_input else "so it is not subtracted") in sentence
    assert "on 50 patches" in sentence


def test_the_input_scaling_is_part_of_the_measure() -> None:
    sae, x = planted(True)
    mean, norm = torch.linspace(0, 1, D), 2.5
    raw = x * norm + mean
    scaled = [sae.recentred(rule).scaled(mean, norm) for rule in (False, True)]
    assert choose_centring(scaled[0], scaled[1], raw)[0].centres_input is True
    assert reconstruction_error(scaled[1], raw) < 1e-9


def test_a_tie_leaves_the_file_as_it_is() -> None:
    sae = make_sae()
    twin = make_sae()
    assert choose_centring(sae, twin, torch.randn(9, 24))[0] is sae
