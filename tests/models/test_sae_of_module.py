"""A user's module as an autoencoder: its decoder is found out, what cannot be edited is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from worlds import make_sae

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.of_module import sae_of

D, S = 6, 10


class Plain(nn.Module):
    """A linear autoencoder; tests change one thing each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(D, S), nn.Linear(S, D)

    def encode(self, x: Tensor) -> Any:
        return torch.relu(self.encoder(x))

    def decode(self, f: Tensor) -> Any:
        return self.decoder(f)


class Hidden(Plain):
    """The rows of the decoder are nowhere to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(nn.Linear(S, S, bias=False), self.decoder)
        self.decoder = nn.Linear(S, D)  # of the right shape, and not what decodes

    def decode(self, f: Tensor) -> Tensor:
        return self.parts(f)


@pytest.mark.parametrize("kind", [Plain, Hidden])
def test_the_decoder_is_what_decode_does(kind: type[Plain]) -> None:
    module = kind()
    sae = sae_of(module, D)
    f_ns = torch.randn(7, S)
    assert torch.allclose(sae.decode(f_ns), module.decode(f_ns), atol=1e-5)
    rows_sd = torch.stack([module.decode(f)[0] for f in torch.eye(S)[:, None]])
    rows_sd = rows_sd - module.decode(torch.zeros(1, S))
    assert torch.allclose(sae.W_dec, rows_sd, atol=1e-5)


def test_latents_are_those_of_the_module_all_or_some_of_them() -> None:
    module = Plain()
    sae = sae_of(module, D)
    x_nd = torch.randn(4, 5, D)
    assert torch.equal(sae.encode(x_nd), module.encode(x_nd))
    some = torch.tensor([7, 2])
    assert torch.equal(sae.columns(x_nd, some), module.encode(x_nd)[..., some])
    assert not sae.needs_scaling


def test_kept_rows_are_taken_to_the_bit() -> None:
    module = Plain()
    assert torch.equal(sae_of(module, D).W_dec, module.decoder.weight.T)


def test_the_module_of_the_user_stays_as_it_is() -> None:
    module = Plain().double()
    sae = sae_of(module, D)
    sae.double().scaled(torch.zeros(D).double(), 3.0)
    assert module.training
    assert module.encoder.weight.dtype == torch.float64
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_weights_are_moved_with_the_autoencoder() -> None:
    module = Plain()
    sae = sae_of(module, D).double()
    x_nd = torch.randn(3, D).double()
    assert torch.equal(sae.encode(x_nd), module.double().encode(x_nd))


def test_a_tensor_that_stays_behind_is_told_from_other_failures() -> None:
    sae = sae_of(Plain(), D)
    nonlinearity: Any = sae.nonlinearity

    def fail(_x: Tensor) -> Tensor:
        raise RuntimeError("Expected all tensors to be on the same device, but found two")

    nonlinearity.module.encode = fail
    with pytest.raises(SemsegError, match="keep its tensors as parameters, buffers or modules"):
        sae.encode(torch.zeros(1, D))
    nonlinearity.module.encode = lambda x: x @ x
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        sae.encode(torch.zeros(2, D))


def test_our_own_autoencoders_come_as_copies() -> None:
    own = make_sae()
    found = sae_of(own, own.d_model)
    found.scaled(torch.ones(own.d_model), 2.0)
    assert found.digest == own.digest
    assert float(own.act_norm) == 1.0


def test_digests_tell_what_a_module_does() -> None:
    """Also where code changed, and no weight."""

    class Stricter(Plain):
        def encode(self, x: Tensor) -> Tensor:
            return torch.relu(self.encoder(x) - 0.1)

    Stricter.__qualname__ = Plain.__qualname__
    other = Plain()
    with torch.no_grad():
        other.decoder.weight += 1e-3
    digests = [sae_of(module, D).digest for module in (Plain(), Plain(), Stricter(), other)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def changed(**methods: Any) -> nn.Module:
    """A plain module with other methods."""
    return type("Changed", (Plain,), methods)()


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Linear(D, S), "has no method encode"),
        (changed(decode=lambda self, f: self.decoder(f) ** 2), "decode that is not linear"),
        (changed(decode=lambda self, f: self.decoder(f.relu())), "decode that is not linear"),
        (
            changed(decode=lambda self, f: self.decoder(nn.functional.normalize(f, dim=1))),
            "decode that is not linear",
        ),
        (changed(decode=lambda self, f: f), "decodes to width 10, the ViT has width 6"),
        (changed(encode=lambda self, x: (x, x)), "method encode that makes tuple"),
        (changed(encode=lambda self, x: x.mean(dim=0)), "method encode that makes shape"),
        (
            changed(encode=lambda self, x: torch.relu(self.encoder(x) - self.encoder(x).mean())),
            "encodes a token otherwise when others are there",
        ),
    ],
)
def test_what_no_edit_can_go_with_is_refused(module: nn.Module, said: str) -> None:
    with pytest.raises(SemsegError, match=said):
        sae_of(module, D)


def test_another_width_is_told() -> None:
    with pytest.raises(SemsegError, match=r"does not encode a tensor of shape \(16, 8\)"):
        sae_of(Plain(), 8)
