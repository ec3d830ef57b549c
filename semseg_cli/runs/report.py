"""Results of an intervention: counts per class, and the ratios that are read off them.

Integers are kept and divided last. An empty denominator gives 0.0. No torch in here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from semseg_cli.files import make_folder, write_atomic
from semseg_cli.runs.field_types import check_types
from semseg_cli.runs.rows import csv_text

SCHEMA_VERSION = 1


def ratio(part: float, whole: float) -> float:
    """`part / whole`, and 0.0 for an empty whole."""
    return float(part / whole) if whole else 0.0


@dataclass(frozen=True)
class ClassResults:
    """Counts of one class in one report.

    `change_distribution` maps a new class id to how many of the changed patches went there; it
    holds non-zero entries only and never the class itself. `outcomes` has further numbers by name
    (see `runs.outcomes`), those that are over something.
    """

    class_id: int
    class_name: str
    n_orig_patches: int
    n_changed_patches: int
    n_other_patches: int
    n_other_changed: int
    change_distribution: dict[int, int]
    outcomes: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)

    @property
    def target_change(self) -> float:
        """Share of the class's own patches that changed class."""
        return ratio(self.n_changed_patches, self.n_orig_patches)

    @property
    def other_change(self) -> float:
        """Share of all other patches that changed class."""
        return ratio(self.n_other_changed, self.n_other_patches)

    @property
    def selectivity(self) -> float:
        """Target change minus other change, in [-1, 1]."""
        return self.target_change - self.other_change

    @property
    def became(self) -> int | None:
        """The class id that most of the changed patches became; the smallest of several."""
        if not self.change_distribution:
            return None
        return min(self.change_distribution, key=lambda to: (-self.change_distribution[to], to))

    @property
    def became_share(self) -> float:
        """Share of the changed patches that became it."""
        return ratio(max(self.change_distribution.values(), default=0), self.n_changed_patches)

    @property
    def became_entropy(self) -> float:
        """Entropy of what the changed patches became, in bits: 0 where all are of one class."""
        shares = [n / self.n_changed_patches for n in self.change_distribution.values()]
        return float(sum(-share * math.log2(share) for share in shares))

    def to_row(self) -> dict[str, int | float | str | None]:
        """The class as one table row; ratios first, then counts, then outcomes.

        Ratios over nothing are None.
        """
        is_there, has_others = self.n_orig_patches > 0, self.n_other_patches > 0
        became = {"became_share": self.became_share, "became_entropy": self.became_entropy}
        return {
            "class_name": self.class_name,
            "target_change": self.target_change if is_there else None,
            "other_change": self.other_change if has_others else None,
            "selectivity": self.selectivity if is_there and has_others else None,
            "class_id": self.class_id,
            "n_orig_patches": self.n_orig_patches,
            "n_changed_patches": self.n_changed_patches,
            "n_other_patches": self.n_other_patches,
            "n_other_changed": self.n_other_changed,
            **(became if self.n_changed_patches else {}),
            **self.outcomes,
        }


@dataclass(frozen=True)
class Report:
    """One intervention at one scale, over all of its classes.

    `edit_norm` is the mean L2 length of the edit per edited patch in raw residual units (None
    where it was not measured); `min_patches` is the least number of original patches with which a
    class enters the `macro_*` means; `shared_edit` says that all classes were counted from ONE pair
    of predictions. `few_images` are the ids of classes that occur in too few images for the macro
    means, `no_latent` the names of classes that were asked for and are not counted.
    """

    method: str
    class_results: list[ClassResults]
    intervention_scale: float
    protocol: str = "class"
    n_images: int = 0
    n_patches: int = 0
    edit_norm: float | None = None
    min_patches: int = 0
    shared_edit: bool = False
    n_draws: int = 1
    few_images: list[int] = field(default_factory=list)
    no_latent: list[str] = field(default_factory=list)
    extra: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)

    def _pooled(self, part: str, whole: str) -> float:
        results = self.class_results
        return ratio(
            sum(getattr(r, part) for r in results), sum(getattr(r, whole) for r in results)
        )

    def _over(
        self, results: Sequence[ClassResults], reduce: Callable[[list[float]], Any], of: str
    ) -> float:
        return float(reduce([getattr(r, of) for r in results])) if results else 0.0

    @property
    def n_asked(self) -> int:
        """Classes that were asked for: those that are counted and those without a latent."""
        return len(self.class_results) + len(self.no_latent)

    @property
    def least_patches(self) -> int:
        """Original patches, over all draws, with which a class enters macro means and rankings."""
        return max(1, self.min_patches) * self.n_draws

    @property
    def mean_target_change(self) -> float:
        """Changed over original patches, pooled over classes."""
        return self._pooled("n_changed_patches", "n_orig_patches")

    @property
    def mean_other_change(self) -> float:
        """Changed others over others, pooled over classes."""
        return self._pooled("n_other_changed", "n_other_patches")

    @property
    def target_change_std(self) -> float:
        """Population standard deviation over classes; a class without patches counts as 0.0."""
        return self._over(self.class_results, np.std, "target_change")

    @property
    def other_change_std(self) -> float:
        """Population standard deviation over classes."""
        return self._over(self.class_results, np.std, "other_change")

    @property
    def selectivity(self) -> float:
        """Pooled target change minus pooled other change."""
        return self.mean_target_change - self.mean_other_change

    @property
    def macro_results(self) -> list[ClassResults]:
        """The classes that macro means are over: at least `min_patches` original patches (one at
        least), not in few images only."""
        return [
            result
            for result in self.class_results
            if result.n_orig_patches >= self.least_patches
            and result.class_id not in self.few_images
        ]

    @property
    def macro_target_change(self) -> float:
        """Mean over `macro_results`, every class alike."""
        return self._over(self.macro_results, np.mean, "target_change")

    @property
    def macro_other_change(self) -> float:
        """Mean over `macro_results`, every class alike."""
        return self._over(self.macro_results, np.mean, "other_change")

    @property
    def macro_selectivity(self) -> float:
        """Macro target change minus macro other change."""
        return self.macro_target_change - self.macro_other_change

    @property
    def is_pooled_telling(self) -> bool:
        """Whether the difference of the pooled changes says anything about specificity.

        Where every class is counted from one pair of predictions it does not: a changed patch is
        "other" for all remaining classes, so both shares are changed / all patches. They are nearly
        so where the classes without a row were predicted on a few patches only (here: at most 5%).
        """
        n_all = self.n_patches * self.n_draws
        return not (self.shared_edit and self._n_counted >= 0.95 * n_all)

    @property
    def _n_counted(self) -> int:
        return sum(r.n_orig_patches for r in self.class_results)

    def metrics(self) -> dict[str, float]:
        """The scalars of the report, as they are tracked; `extra` adds to them, changes none.

        Means over no class, and pooled shares of no patch, are left out.
        """
        macro = {
            "macro_target_change": self.macro_target_change,
            "macro_other_change": self.macro_other_change,
            "macro_selectivity": self.macro_selectivity,
        }
        pooled = {
            "target_change": self.mean_target_change,
            "other_change": self.mean_other_change,
            "selectivity": self.selectivity,
        }
        values = {
            **(macro if self.macro_results else {}),
            **(pooled if self._n_counted else {}),
            "target_std": self.target_change_std,
            "other_std": self.other_change_std,
            "scale": self.intervention_scale,
            "n_classes": float(len(self.class_results)),
            "n_images": float(self.n_images),
            "n_patches": float(self.n_patches),
        }
        if self.edit_norm is not None:
            values["edit_norm"] = self.edit_norm
        if self.n_draws > 1:
            values["n_draws"] = float(self.n_draws)
        return {**values, **{k: v for k, v in self.extra.items() if k not in values}}

    def to_csv_row(self) -> dict[str, str | float]:
        """The reference's row: method, and pooled means and deviations over classes."""
        return {
            "method": self.method,
            "target_change": self.mean_target_change,
            "other_change": self.mean_other_change,
            "target_std": self.target_change_std,
            "other_std": self.other_change_std,
        }

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready form that `report_of` turns back into an equal report."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "metrics": self.metrics()}


CSV_HEADER = ["method", "target_change", "target_std", "other_change", "other_std"]


def save(results: list[Report], fpath: str) -> None:
    """Writes one CSV row per report, atomically; makes missing parent folders.

    Raises:
        SemsegError: the file cannot be written.
    """
    text = csv_text((report.to_csv_row() for report in results), CSV_HEADER)
    make_folder(Path(fpath).parent)
    write_atomic(Path(fpath), text.encode())
