"""MSAE: Matryoshka SAEs of CLIP's pooled embeddings, which are recognised to be refused."""

from semseg_cli.errors import SemsegError
from semseg_cli.models.sae.source import Source

NAMES = ("encoder", "decoder", "pre_bias", "latent_bias")


def refuse(source: Source) -> None:
    """Refuses a file of MSAE: no patch token is what these read.

    Raises:
        SemsegError: the source is one.
    """
    found = source.peek()
    state = found.get("model") if isinstance(found, dict) else None
    if isinstance(state, dict) and set(NAMES) <= set(state):
        raise SemsegError(
            f"The SAE {source.path} is an MSAE: it reads CLIP's pooled image embedding, one vector "
            "per image, and cannot be used on patches."
        )
