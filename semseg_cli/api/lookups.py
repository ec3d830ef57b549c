"""A choice of latents, as it is handed back."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from semseg_cli.api.own_folder import OwnFolder
from semseg_cli.api.tables import Shown, frame_of
from semseg_cli.commands.lookup import Latents
from semseg_cli.errors import SemsegError
from semseg_cli.runs.choice import chosen_rows
from semseg_cli.show.tables import Table


class Lookup(Shown):
    """The latents of each class, best first. `run(..., lookup=this)` uses them."""

    def __init__(self, found: Latents, temporary: OwnFolder | None) -> None:
        self._found = found
        self._temporary = temporary  # goes with this object

    @property
    def folder(self) -> Path | None:
        """The run's folder; None if nothing was to be written."""
        return self.path if self._temporary is None else None

    @property
    def path(self) -> Path:
        """Where `run` finds it."""
        return self._found.folder.path

    @property
    def latents(self) -> dict[str, list[int]]:
        """Class name -> its chosen latents; classes without one are left out."""
        found: dict[str, list[int]] = {}
        for row in chosen_rows(self._found.table.rows):
            if row["latent"] is not None:
                found.setdefault(str(row["class_name"]), []).append(int(row["latent"]))
        return found

    @property
    def groups(self) -> pd.DataFrame:
        """Each class's smallest group of latents, and what it does on other images.

        Raises:
            SemsegError: none were asked for.
        """
        if self._found.groups is None:
            raise SemsegError(
                "No groups were grown: give max_group, and select='causal' or 'cause'."
            )
        return frame_of(self._found.groups.rows)

    def to_frame(self) -> pd.DataFrame:
        """One row per class and candidate, the chosen ones marked."""
        return frame_of(self._found.table.rows)

    def tables(self) -> Sequence[Table]:
        """The latents, and the groups where they were grown."""
        groups = self._found.groups
        return [self._found.table, *([] if groups is None else [groups])]
