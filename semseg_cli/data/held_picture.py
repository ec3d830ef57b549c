"""A picture in memory that is read as a file would be."""

from dataclasses import dataclass
from io import BytesIO


@dataclass(frozen=True, eq=False)
class HeldPicture:
    """The bytes of a picture's file; two are the same only if they are one."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.name} in memory"

    def read_bytes(self) -> bytes:
        """The file."""
        return self.data

    def open(self) -> BytesIO:
        """The same as a binary file."""
        return BytesIO(self.data)
