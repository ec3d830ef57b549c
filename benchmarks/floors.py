"""What the arithmetic of a piece of work costs at least, by the sizes alone."""

from dataclasses import dataclass

from benchmarks.sizes import Size

MLP_RATIO = 4
BYTES = 4  # of a number


@dataclass(frozen=True)
class Floor:
    """Floating-point operations, and bytes that have to be read at least once."""

    flops: float = 0.0
    n_bytes: float = 0.0

    def __add__(self, other: "Floor") -> "Floor":
        return Floor(self.flops + other.flops, self.n_bytes + other.n_bytes)

    def times(self, n: float) -> "Floor":
        """The same work done n times; what is read once per pass is read n times."""
        return Floor(self.flops * n, self.n_bytes * n)


def embedding(size: Size) -> Floor:
    """Patches of an image to tokens."""
    n_in = 3 * size.patch_px**2
    return Floor(2 * size.n_patches * n_in * size.d_model, 3 * size.image_px**2 * BYTES)


def block(size: Size) -> Floor:
    """One block on one image: four projections, attention, the MLP; weights read once a batch."""
    n, d = size.n_tokens, size.d_model
    n_weights = (4 + 2 * MLP_RATIO) * d**2
    flops = 2 * n * n_weights + 4 * n**2 * d
    return Floor(flops, n_weights * BYTES / size.batch_size + 2 * n * d * BYTES)


def head(size: Size) -> Floor:
    """Logits of one image's patches."""
    n_weights = size.d_model * (size.n_classes + 1)
    return Floor(2 * size.n_patches * n_weights, n_weights * BYTES / size.batch_size)


def encoder(size: Size, n_latents: int) -> Floor:
    """Some latents of one image's patches, without writing them anywhere."""
    n_weights = size.d_model * n_latents
    return Floor(2 * size.n_patches * n_weights, n_weights * BYTES / size.batch_size)


def bare(size: Size) -> Floor:
    """The whole ViT on one image."""
    return embedding(size) + block(size).times(size.n_blocks)


def prefix(size: Size) -> Floor:
    """The ViT up to the autoencoder, on one image."""
    return embedding(size) + block(size).times(size.layer)


def tail(size: Size) -> Floor:
    """The rest of the network and the head, on one image."""
    return block(size).times(size.n_blocks - size.layer) + head(size)


def lookup(size: Size) -> Floor:
    """Prefix and encoder."""
    return prefix(size) + encoder(size, size.d_sae)


def edits(size: Size, n_edits: int) -> Floor:
    """Prefix, the clean tail and one tail per edit of an image."""
    return prefix(size) + tail(size).times(1 + n_edits)


def tails(size: Size, n_edits: int) -> Floor:
    """Encoder and tails of an image whose residual is known."""
    return encoder(size, size.d_sae) + tail(size).times(1 + n_edits)
