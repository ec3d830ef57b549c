"""A dataset's images in batches, read by worker processes that end when their reader does."""

import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import wait

from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from semseg_cli import interrupts
from semseg_cli.data.batches import Batch, Careful, KeptSample, Sample, collated
from semseg_cli.data.dataset import Dataset
from semseg_cli.errors import SemsegError, lost_worker

A_MOMENT = 5.0  # seconds in which a worker that broke its connection has ended


class Loader:
    """Batches of a dataset, in order; the same images whatever the batch size or worker count.

    `positions` are those of a rank's own images (default: all); batches count within the dataset.

    Raises:
        SemsegError: while iterating, for a file that cannot be read or a label beyond the classes.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        n_workers: int = 0,
        *,
        pin_memory: bool = False,
        positions: range | None = None,
    ) -> None:
        self.dataset = dataset
        self.positions = range(len(dataset)) if positions is None else positions
        self.batch_size = batch_size
        self.n_workers = n_workers
        self.pin_memory = pin_memory

    def after(self, n_images: int) -> "Loader":
        """The same without the first so many of its images."""
        return self._of(self.positions[n_images:], self.batch_size)

    def in_parts(self, n_parts: int, least: int) -> "Loader":
        """The same images in so many batches or more, where these have `least` images or more."""
        n_most = max(least, len(self.positions) // n_parts)
        return self._of(self.positions, min(self.batch_size, n_most))

    def _of(self, positions: range, batch_size: int) -> "Loader":
        pin_memory = self.pin_memory
        return Loader(
            self.dataset, batch_size, self.n_workers, pin_memory=pin_memory, positions=positions
        )

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(self.dataset)

    def batches(self, samples: TorchDataset[Sample | KeptSample]) -> Iterator[Batch]:
        """Batches of the dataset's images, taken from `samples`."""
        loader = DataLoader(
            Careful(samples),
            self.batch_size,
            sampler=self.positions,
            num_workers=self.n_workers,
            collate_fn=collated,
            worker_init_fn=_leave_to_parent,
            pin_memory=self.pin_memory,
        )
        with interrupts.held():  # forking runs callbacks that drop exceptions
            batches = iter(loader)
        try:
            while True:
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except (OSError, EOFError) as error:
                    if not _one_has_ended(batches):
                        raise
                    interrupts.check()  # a signal to the whole group ends the workers, too
                    raise lost_worker(f"{type(error).__name__}: {error}") from error
                if isinstance(batch, SemsegError):
                    raise batch
                yield batch
        finally:
            # Ends the workers now. An error is in a cycle with this frame: garbage collection would
            # close their queues before telling them, and each would be waited for in vain.
            del batches


def _one_has_ended(batches: object) -> bool:
    """Whether one of the workers has ended, or does in a moment."""
    workers = getattr(batches, "_workers", ())
    return bool(workers) and bool(wait([worker.sentinel for worker in workers], A_MOMENT))


def _leave_to_parent(_worker: int) -> None:
    """A worker says nothing on Ctrl-C, dies when its parent ends it, and hands errors on as values:
    all that its thread which passes tensors could print is that the parent has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.excepthook = _say_nothing


def _say_nothing(*_: object) -> None:
    pass
