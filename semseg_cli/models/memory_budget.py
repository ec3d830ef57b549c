"""How much is computed at once, so that memory stays within --memory-budget.

The budget is for what a run holds beside weights and counts. One half is for a batch: pixels,
residuals, activations of the latents in use. The other is for what one pass makes on the way.
Estimates are in bytes and were held against measured peaks: see benchmarks/NOTES.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

GIB = 2**30
SHARE_OF_GPU = 0.25  # of its whole memory: what else runs there should not decide sizes
# Larger passes took longer per row: caches hold less of them, and the C library gives tensors from
# some 20 MiB on back to the system and takes them again, page by page.
LARGEST_ON_CPU = 16 * 2**20
SLACK = 1.25  # of what a pass makes: memory that is free, but in pieces
# Per latent of a patch: before and after the nonlinearity, with TopK a copy more, as float32; then
# what counts which are active (at most 15 were measured); and slack.
BYTES_PER_LATENT = 20


@dataclass(frozen=True)
class Network:
    """The sizes of a ViT, for one image.

    Args:
        n_tokens: with CLS and registers.
        d_model: width of the residual stream.
        d_hidden: width of what the first half of an MLP makes of a token.
        n_score_heads: attention heads whose scores are held; 0 where attention is fused.
        n_pixels: values of the image.
        itemsize: bytes of a number.
        d_kept: numbers that are held of a token, where they are not `d_model`.
    """

    n_tokens: int
    d_model: int
    d_hidden: int
    n_score_heads: int
    n_pixels: int
    itemsize: int
    d_kept: int | None = None

    @property
    def token_numbers(self) -> int:
        """What is held of all tokens."""
        return self.n_tokens * (self.d_kept or self.d_model)

    @property
    def hidden_bytes(self) -> int:
        """The largest tensor of a pass."""
        return self.n_tokens * self.d_hidden * self.itemsize

    @property
    def block_bytes(self) -> int:
        """What a block holds at its peak: in the MLP, or in attention."""
        stream = self.n_tokens * self.d_model * self.itemsize
        scores = self.n_score_heads * self.n_tokens**2 * self.itemsize
        return max(3 * stream + 2 * self.hidden_bytes, 6 * stream + 3 * scores)

    @property
    def image_bytes(self) -> int:
        """What a pass from the pixels on makes."""
        return int(SLACK * (self.block_bytes + 2 * self.n_pixels * self.itemsize))

    def row_bytes(self, n_outputs: int, n_directions: int) -> int:
        """What a pass of an edited image makes: the edit, the blocks, logits three times.

        Each patch has its own directions, `n_directions` of them.
        """
        edit = (2 + n_directions) * self.n_tokens * self.d_model * 4 + self.token_numbers * 4
        logits = 3 * self.n_tokens * n_outputs * 4
        return int(SLACK * (edit + self.block_bytes + logits))

    def held_bytes(self, n_latents: int) -> int:
        """What stays of an image while its batch is worked on and the next one is loaded.

        Pixels three times, tokens four times and whitened; each latent's activation twice, its
        coefficient three times while it is made, and how it takes a patch off.
        """
        tokens = 5 * self.token_numbers * 4
        return 3 * self.n_pixels * 4 + tokens + 6 * n_latents * self.n_tokens * 4


@dataclass(frozen=True)
class Budget:
    """So many bytes, and the most that one tensor should have (None: as large as it gets)."""

    n_bytes: int = GIB
    largest: int | None = LARGEST_ON_CPU

    def images_held(self, network: Network, n_latents: int = 0) -> int:
        """Images per batch, where each patch holds its residual and so many latents."""
        return self._fitting(network.held_bytes(n_latents))

    def images_per_pass(self, network: Network) -> int:
        """Images that go through blocks at once."""
        return self._fitting(network.image_bytes, network.hidden_bytes)

    def rows_per_pass(self, network: Network, n_outputs: int, n_directions: int = 1) -> int:
        """Edited images that go through the rest of the network and a head at once."""
        return self._fitting(network.row_bytes(n_outputs, n_directions), network.hidden_bytes)

    def patches_encoded(self, d_sae: int) -> int:
        """Patches that are encoded at once."""
        return self._fitting(d_sae * BYTES_PER_LATENT, d_sae * 4)

    def n_bytes_used(self, network: Network, batch_size: int, n_outputs: int, d_sae: int) -> int:
        """What a run takes of the budget: a batch, and the largest of its passes."""
        batch = min(batch_size, self.images_held(network, n_outputs))
        images = self.images_per_pass(network) * network.image_bytes
        rows = self.rows_per_pass(network, n_outputs) * network.row_bytes(n_outputs, 1)
        encoded = self.patches_encoded(d_sae) * d_sae * BYTES_PER_LATENT
        return batch * network.held_bytes(n_outputs) + max(images, rows, encoded)

    def _fitting(self, n_bytes: int, of_largest: int = 0) -> int:
        n = self.n_bytes // 2 // n_bytes
        if self.largest is not None and of_largest:
            n = min(n, self.largest // of_largest)
        return max(1, n)


def make_budget(gib: float | None, device: torch.device) -> Budget:
    """The budget of the settings; without one 1 GiB on a CPU, a quarter of a GPU.

    No more than a GPU has free, where it is that full.
    """
    is_cpu = device.type == "cpu"
    if gib is not None:
        n_bytes = int(gib * GIB)
    elif is_cpu:
        n_bytes = GIB
    else:
        free, total = torch.cuda.mem_get_info(device)
        n_bytes = min(free, int(SHARE_OF_GPU * total))
    return Budget(n_bytes, LARGEST_ON_CPU if is_cpu else None)


def in_passes(run: Callable[[Tensor], Tensor], rows: Tensor, n_most: int) -> Tensor:
    """What `run` makes of all rows, from passes of at most so many; they differ by one at most."""
    n_passes = -(-len(rows) // n_most)
    if n_passes <= 1:
        return run(rows)
    parts = rows.tensor_split(n_passes)
    first = run(parts[0])
    whole = first.new_empty(len(rows), *first.shape[1:])
    begin = 0
    for i, part in enumerate(parts):
        whole[begin : begin + len(part)] = run(part) if i else first
        begin += len(part)
    return whole
