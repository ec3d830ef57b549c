"""Making what is not published: statistics and heads."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from semseg_cli.settings.base import Settings, check_suffix, option

FeatureDtype = Literal["float16", "float32"]


@dataclass(frozen=True, kw_only=True)
class KeepStats(Settings):
    """Where the statistics of an autoencoder go besides the run folder."""

    panel: ClassVar[str] = "Statistics"

    save: Path | None = option(None, "Write a copy to this .safetensors file.")
    reference_names: Path | None = option(
        None, "Write act_mean.pt, act_norm.pt, sparsity.pt, top_values.pt into this folder."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_suffix("save", self.save, (".safetensors",))


@dataclass(frozen=True, kw_only=True)
class Training(Settings):
    """How linear heads are trained: one per learning rate and weight decay, all at once."""

    panel: ClassVar[str] = "Training"

    lr: tuple[float, ...] = option(
        (0.0003, 0.001, 0.003), "Learning rate of AdamW (repeatable).", gt=0.0, le=10.0
    )
    weight_decay: tuple[float, ...] = option(
        (0.001, 0.1), "Weight decay of AdamW (repeatable).", ge=0.0, le=100.0
    )
    epochs: int = option(50, "Passes over the patches, at most.", ge=1, le=100_000)
    patience: int = option(
        5,
        "A head is done after so many epochs without a better coarse mIoU on held-out images.",
        ge=1,
    )
    held_out: float = option(
        0.2, "Share of the training images that heads do not learn from and are chosen on.",
        gt=0.0, le=0.9,
    )  # fmt: skip
    group_by: str | None = option(
        None, "Hold images of one drive, patient or scene out together: a regular expression that "
        "finds its name in theirs, or FILE.csv:COLUMN.",
    )  # fmt: skip
    patches_per_step: int = option(4096, "Patches per step of the optimiser.", ge=1)
    ignore_null: bool = option(
        False, "Leave out patches labelled 0; else they are what channel 0 learns."
    )
    feature_dtype: FeatureDtype = option("float16", "Precision in which features are kept.")
    memory_gib: float = option(
        4.0, "Features of a split that take more go to a temporary file in the cache.", ge=0.0,
        le=100_000.0,
    )  # fmt: skip
    save: Path | None = option(None, "Write the best head to this .pt or .safetensors file, too.")
    resume: Path | None = option(None, "Go on from the last epoch of this run folder.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_suffix("save", self.save, (".pt", ".safetensors"))
        for name in ("lr", "weight_decay"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} is empty: give at least one number")
            if len(set(values)) < len(values):
                raise ValueError(f"{name} is {values}: give each number once")

    @property
    def rates(self) -> tuple[tuple[float, float], ...]:
        """(learning rate, weight decay) of each head."""
        return tuple((lr, decay) for lr in self.lr for decay in self.weight_decay)
