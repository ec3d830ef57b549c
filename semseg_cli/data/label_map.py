"""What the numbers stored in a mask mean."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from semseg_cli.errors import SemsegError, UsageError

BACKGROUND = "background"
NARROW_MODES = ("1", "L", "P")
WIDE_MODES = (*NARROW_MODES, "I;16", "I;16L", "I;16B")
_LARGEST = 2**16 - 1


@dataclass(frozen=True)
class LabelMap:
    """From the numbers in a mask to class ids: number n is class n + offset, of 1..C.

    `ignored` numbers (void, unlabelled) are label 0, whatever the offset; any other number is an
    error of the mask. `source` says what to check then.
    """

    class_names: tuple[str, ...]
    offset: int = 0
    ignored: tuple[int, ...] = ()
    source: str = "the class names"

    def __post_init__(self) -> None:
        if self._largest > _LARGEST:
            raise SemsegError(
                f"The dataset needs numbers up to {self._largest} in its masks: 16-bit masks hold "
                f"{_LARGEST} at most, merge some classes."
            )

    @property
    def _largest(self) -> int:
        return max(len(self.class_names) - self.offset, *self.ignored, 0)

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that a mask may have; 16-bit ones only where 8 bits do not suffice."""
        return WIDE_MODES if self._largest > 255 else NARROW_MODES

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest number that stand for a class."""
        return 1 - self.offset, len(self.class_names) - self.offset

    @cached_property
    def table(self) -> np.ndarray:
        """The label of every number that a mask can hold; -1 where a number is an error."""
        labels = np.arange(256 if self.modes == NARROW_MODES else _LARGEST + 1) + self.offset
        labels[(labels < 1) | (labels > len(self.class_names))] = -1
        labels[list(self.ignored)] = 0
        return labels

    def with_background(self) -> "LabelMap":
        """The same with 0 as a class of its own, the first one; the others move up by one.

        Raises:
            UsageError: 0 is a class already, or is not next to the first class.
        """
        if 0 not in self.ignored:
            raise UsageError(
                "--background is given, but 0 is a class of this dataset already: leave it out."
            )
        if self.offset:
            raise UsageError(
                f"--background is given, but the classes of this dataset begin at "
                f"{1 - self.offset}: it needs classes from 1."
            )
        return replace(
            self,
            class_names=(BACKGROUND, *self.class_names),
            offset=1,
            ignored=tuple(n for n in self.ignored if n),
        )
