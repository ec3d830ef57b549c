"""Settings as frozen dataclasses: what a user can choose, its default, its bounds and its help.

Standard library only, so that `--help` and `compare` stay light. Each dataclass is one panel of a
command's help; `options.py` turns its fields into options, `Settings` checks their values.
"""

import math
from dataclasses import MISSING, Field, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

VitFamily = Literal["dinov2", "dinov3", "clip", "siglip"]
Protocol = Literal["class", "label"]
Select = Literal["f1", "causal"]
VectorMatch = Literal["none", "norm"]
LatentMatch = Literal["none", "frequency", "max"]
Removal = Literal["norm", "project"]
Control = Literal["none", "shuffled"]
Device = Literal["auto", "cpu", "cuda"]
Format = Literal["table", "csv", "json", "markdown", "latex"]
Dtype = Literal["float32", "bfloat16", "float16"]
FeatureDtype = Literal["float16", "float32"]
SaeFormat = Literal[
    "auto", "saev", "saelens", "dictionary_learning", "sparsify", "overcomplete", "prisma"
]
CentreInput = Literal["auto", "yes", "no"]
DataFormat = Literal["auto", "ade20k", "voc2012", "cityscapes", "coco-stuff", "toml"]


def option(
    default: Any,
    help: str,
    *,
    flag: str | None = None,
    ge: float | None = None,
    le: float | None = None,
    gt: float | None = None,
    path: bool = False,
) -> Any:
    """A dataclass field with its help, its bounds and, where the names differ, its option name.

    `path` marks values that are read from disk when such a path exists (they may also be a number,
    an alias or a hub id): relative ones in a config file are looked up beside that file.
    """
    metadata = {"help": help, "flag": flag, "ge": ge, "le": le, "gt": gt, "path": path}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings. Values out of bounds raise a ValueError that names the field."""

    panel: ClassVar[str] = "Settings"

    def __post_init__(self) -> None:
        for setting in fields(self):
            check_value(setting, getattr(self, setting.name))


def check_value(setting: Field[Any], value: Any) -> None:
    """Refuses a value that its field does not allow, with a ValueError."""
    if value is None or isinstance(value, Settings):
        return
    choices = get_args(setting.type) if get_origin(setting.type) is Literal else ()
    if choices and value not in choices:
        raise ValueError(f"{setting.name} is {value!r}: choose one of {', '.join(choices)}")
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, int | float) and not isinstance(one, bool):
            _check_number(setting, one)


def _check_number(setting: Field[Any], value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{setting.name} is {value}: give a finite number")
    low, high = setting.metadata.get("ge"), setting.metadata.get("le")
    above = setting.metadata.get("gt")
    if low is not None and high is not None and not low <= value <= high:
        raise ValueError(f"{setting.name} is {value}: give a number from {low:g} to {high:g}")
    if low is not None and value < low:
        raise ValueError(f"{setting.name} is {value}: give a number of at least {low:g}")
    if above is not None and value <= above:
        raise ValueError(f"{setting.name} is {value}: give a number above {above:g}")
    if high is not None and value > high:
        raise ValueError(f"{setting.name} is {value}: give a number of at most {high:g}")


def to_size(name: str, value: int | str | None) -> tuple[int, int] | None:
    """Height and width, from H or HxW; a ValueError names the field otherwise."""
    if value is None:
        return None
    sides = str(value).lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"{name} is {value!r}: give H or HxW in pixels, such as 448 or 320x512")
    return int(sides[0]), int(sides[-1])


def check_suffix(name: str, path: Path | None, allowed: tuple[str, ...]) -> None:
    """Refuses a file name that says another format than the allowed ones."""
    if path is not None and path.suffix not in allowed:
        raise ValueError(
            f"{name} is {str(path)!r}: give a name that ends in {' or '.join(allowed)}"
        )


@dataclass(frozen=True, kw_only=True)
class Imgs(Settings):
    """A dataset: a folder in a known layout and one of its splits."""

    panel: ClassVar[str] = "Data"

    root: Path | None = option(
        None, "Dataset folder (for layouts see --data-format), or a dataset.toml.", path=True
    )
    split: str = option("validation", "Split on which interventions are evaluated.")


@dataclass(frozen=True, kw_only=True)
class Vit(Settings):
    """The vision transformer, and what is expected of it."""

    panel: ClassVar[str] = "Model"

    vit_family: VitFamily = option(
        "dinov2", "Family of the vision transformer: dinov2, dinov3, clip, siglip."
    )
    vit_ckpt: str | None = option(
        None, "Vision transformer: alias, Hugging Face id or local folder.", path=True
    )
    image_size: int | str | None = option(
        None, "Size that the transformer sees, H or HxW in pixels; else the checkpoint's own."
    )
    n_patches_per_img: int | None = option(
        None, "Expected patch tokens per image; checked against the model.", ge=1
    )
    cls_token: bool | None = option(
        None, "Whether a CLS token is expected; checked against the model."
    )
    patch_size_px: int | None = option(
        None, "Expected patch side in pixels; checked against the model.", ge=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        to_size("image_size", self.image_size)

    @property
    def image_hw(self) -> tuple[int, int] | None:
        """Height and width of `image_size`."""
        return to_size("image_size", self.image_size)


@dataclass(frozen=True, kw_only=True)
class SaeModel(Vit):
    """The vision transformer, and a sparse autoencoder of its residual stream."""

    panel: ClassVar[str] = "Model"

    vit_layer: int = option(11, "Residual stream after this many blocks, counted from 1.", ge=1)
    sae_ckpt: str | None = option(
        None, "Trained sparse autoencoder: file, folder, or hf:// path.", path=True
    )
    sae_format: SaeFormat = option(
        "auto",
        "Format of the autoencoder: auto (looks inside), saev, saelens, dictionary_learning, "
        "sparsify, overcomplete, prisma.",
    )
    sae_centre_input: CentreInput = option(
        "auto",
        "Whether b_dec is subtracted before encoding; auto does what the format says, and measures "
        "both where it does not.",
    )
    act_mean: float | str | None = option(
        None, "SAE input mean (file, or 0 for none); else computed.", path=True
    )
    act_norm: float | str | None = option(
        None, "SAE input norm (number or file); else computed.", path=True
    )
    sparsity: str | None = option(
        None, "Firing frequency per latent (file); else computed.", path=True
    )
    top_values: str | None = option(
        None, "Top activations per latent (file); else computed.", path=True
    )


@dataclass(frozen=True, kw_only=True)
class Model(SaeModel):
    """The frozen parts: vision transformer, sparse autoencoder, segmentation head."""

    panel: ClassVar[str] = "Model"

    seg_ckpt: str | None = option(
        None, "Trained linear segmentation head: file, or folder of *_step{n}.pt.", path=True
    )


@dataclass(frozen=True, kw_only=True)
class LookupData(Settings):
    """A dataset, and its images that anything is learnt or chosen on."""

    panel: ClassVar[str] = "Data"

    imgs: Imgs = field(default_factory=Imgs)
    data_format: DataFormat = option(
        "auto", "Layout of the dataset folder; auto looks inside. toml: as its dataset.toml says."
    )
    background: bool = option(
        False, "Make label 0 of the masks a class of its own (VOC: background)."
    )
    skip_bad: bool = option(
        False, "Leave out images whose files cannot be used; decodes all files first."
    )
    lookup_split: str = option(
        "training", "Split for SAE statistics, for choosing latents and for training heads."
    )
    lookup_images: int | None = option(
        None, "Use a fixed even subset of this many images of the lookup split.", ge=1
    )


@dataclass(frozen=True, kw_only=True)
class Splits(LookupData):
    """The images to learn or choose on, and those to evaluate on."""

    panel: ClassVar[str] = "Data"

    images: int | None = option(None, "Evaluate a fixed even subset of this many images.", ge=1)
    label_threshold: float = option(
        0.9, "Share of a patch's pixels that must agree for a clean label.", ge=0.0, le=1.0
    )


@dataclass(frozen=True, kw_only=True)
class Data(Splits):
    """The images, and the classes of them that matter."""

    panel: ClassVar[str] = "Data"

    classes: tuple[str, ...] = option((), "Only this class (repeatable; name or id).", flag="class")


@dataclass(frozen=True, kw_only=True)
class Measure(Settings):
    """What is counted."""

    panel: ClassVar[str] = "Measurement"

    protocol: Protocol = option(
        "class",
        "class: edit every patch with one class's latent, count that class only. "
        "label: edit each patch with its own label's latent, count all classes at once.",
    )
    min_patches: int = option(
        50, "Classes with fewer predicted patches stay out of macro means.", ge=0
    )


@dataclass(frozen=True, kw_only=True)
class Compute(Settings):
    """Where and how the numbers are computed; none of it changes a result in float32."""

    panel: ClassVar[str] = "Compute"

    device: Device = option("auto", "Device; auto takes CUDA where there is one.")
    dtype: Dtype = option("float32", "Precision of the ViT; float32 is the exact mode.")
    batch_size: int = option(128, "Images, or edited images, per forward pass.", ge=1)
    n_workers: int | None = option(
        None, "Image loading processes (0 on a CPU, else one per core up to 16).",
        flag="workers", ge=0,
    )  # fmt: skip
    seed: int = option(42, "Seed of all random draws.", ge=0)
    cache_dir: Path | None = option(
        None, "Folder for computed statistics and the demo world (your user cache folder)."
    )


@dataclass(frozen=True, kw_only=True)
class StatsSetup(Compute, LookupData, SaeModel):
    """What the statistics of an autoencoder need. Fields come in the reverse order of the bases."""


@dataclass(frozen=True, kw_only=True)
class LookupSetup(Compute, Data, Model):
    """What choosing latents needs."""


@dataclass(frozen=True, kw_only=True)
class Setup(Compute, Measure, Data, Model):
    """Everything an experiment needs except the choice of the intervention."""


@dataclass(frozen=True, kw_only=True)
class TrainSetup(Compute, Splits, Vit):
    """What training heads needs: neither an autoencoder nor a head."""


@dataclass(frozen=True, kw_only=True)
class Selection(Settings):
    """How each class gets its latent."""

    panel: ClassVar[str] = "Choice of latents"

    select: Select = option(
        "f1",
        "f1: the latent with the best F1. causal: of the --top-k best by F1, the one whose own "
        "edit has the largest target minus other change.",
    )
    top_k: int = option(3, "Latents listed per class, and candidates of the causal rule.", ge=1)
    top_k_group: int = option(1, "Set this many of a class's best latents together.", ge=1)
    select_images: int = option(
        200, "Causal rule: images with the class, and as many without it, at most.", ge=1
    )
    max_freq: float = option(
        0.01, "Latents that fire on a larger share of patches are no candidates.", gt=0.0, le=1.0
    )


@dataclass(frozen=True, kw_only=True)
class LatentChoice(Selection):
    """A choice of latents, made now or reused."""

    lookup: str | None = option(
        None, "Reuse latents: a lookup.csv, a run folder or a run id of the store.", path=True
    )


@dataclass(frozen=True, kw_only=True)
class Scaled(Settings):
    """Scales in units of a latent's maximum observed activation."""

    panel: ClassVar[str] = "Intervention"

    scale: tuple[float, ...] = option(
        (-2.0,), "Set the latent to this many times its maximum (repeatable).", ge=-10.0, le=10.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scale:
            raise ValueError("scale is empty: give at least one number")
        if len(set(self.scale)) < len(self.scale):
            raise ValueError(f"scale is {self.scale}: give each number once")


@dataclass(frozen=True, kw_only=True)
class Drawn(Settings):
    """Random controls: how many independent draws."""

    panel: ClassVar[str] = "Intervention"

    draws: int = option(1, "Independent random draws, all in one pass over the images.", ge=1)


@dataclass(frozen=True, kw_only=True)
class RandVec(LatentChoice, Drawn, Scaled):
    """Control: push every patch along a random direction."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "random-vector"
    command: ClassVar[str] = "rand-vec"

    scale: tuple[float, ...] = option(
        (-2.0,), "Length of the random vector in raw activation units (repeatable); with "
        "--match norm, the scale of the automatic edit whose length it takes.",
    )  # fmt: skip
    match: VectorMatch = option(
        "none", "norm: as long, patch by patch, as the automatic edit of each class would be."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.match == "norm":
            Scaled(scale=self.scale)


@dataclass(frozen=True, kw_only=True)
class RandFeat(LatentChoice, Drawn, Scaled):
    """Control: set one random live latent per class."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "random-feature"
    command: ClassVar[str] = "rand-feat"

    match: LatentMatch = option(
        "none",
        "Draw among the latents most like each class's own latent in firing frequency, or in "
        "maximum activation.",
    )


@dataclass(frozen=True, kw_only=True)
class AutoFeat(LatentChoice, Scaled):
    """Set each class's own latent."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "automatic-feature"
    command: ClassVar[str] = "auto-feat"

    control: Control = option(
        "none", "shuffled: the same, on a dictionary whose decoder rows are permuted."
    )


@dataclass(frozen=True, kw_only=True)
class MeanDiff(LatentChoice, Scaled):
    """Supervised baseline: take out each class's difference of means."""

    panel: ClassVar[str] = "Intervention"
    name: ClassVar[str] = "mean-difference"
    command: ClassVar[str] = "mean-diff"

    match: Removal = option(
        "norm",
        "norm: move along the difference as far as the automatic edit would. project: set each "
        "patch's component along it to the mean of the other classes (no --scale).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.match == "project" and len(self.scale) > 1:
            raise ValueError("scale is given several times: a projection has none, leave it out")


@dataclass(frozen=True, kw_only=True)
class Choose(Selection, Scaled):
    """Choose latents without intervening; the causal rule tries each at the given scale."""


Method = RandVec | RandFeat | AutoFeat | MeanDiff
METHODS: tuple[type[Method], ...] = get_args(Method)


@dataclass(frozen=True, kw_only=True)
class Places(Settings):
    """Where runs are written and tracked, and how results are printed."""

    panel: ClassVar[str] = "Results"

    dump_to: Path = option(Path("semseg-runs"), "Folder that receives one folder per run.")
    tracking_uri: str | None = option(
        None, "MLflow store; else MLFLOW_TRACKING_URI, else mlflow.db in this folder."
    )
    no_track: bool = option(False, "Write the local run folder only, without MLflow.")
    format: Format = option("table", "Form of the printed results.")
    quiet: bool = option(False, "No progress and no messages; the summary still prints.")


@dataclass(frozen=True, kw_only=True)
class Checkup(Places):
    """What `doctor` looks at beside the settings of the run that follows."""

    panel: ClassVar[str] = "Results"

    probe_images: int = option(
        8, "Images of each split on which the parts are tried together.", ge=1, le=256
    )


@dataclass(frozen=True, kw_only=True)
class Recorded(Places):
    """Where the folder of a run goes, what it is called, and what is said meanwhile."""

    panel: ClassVar[str] = "Results"

    experiment: str = option("semseg", "MLflow experiment.")
    run_name: str | None = option(None, "Name of the run; else made from method and scale.")
    tags: tuple[str, ...] = option((), "Tag KEY=VALUE of the run (repeatable).", flag="tag")
    system_metrics: bool = option(
        False, "Track processor, memory, disk and GPU use as metrics system/... (needs psutil)."
    )
    dry_run: bool = option(False, "Say what would run, its size and estimated time; then stop.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for tag in self.tags:
            if "=" not in tag or not tag.partition("=")[0].strip():
                raise ValueError(f"tag is {tag!r}: give it as KEY=VALUE")
        if self.system_metrics and self.no_track:
            raise ValueError("system_metrics is about tracking: leave out --no-track")
        if self.system_metrics and find_spec("psutil") is None:
            raise ValueError("system_metrics needs psutil: run `pip install psutil`")


@dataclass(frozen=True, kw_only=True)
class Output(Recorded):
    """Where results go, pictures among them."""

    panel: ClassVar[str] = "Results"

    no_plots: bool = option(False, "Draw nothing: no plots, no examples, no report.html.")
    log_class_metrics: bool = option(
        False, "Track the numbers of every class as metrics class/NAME/..., too."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.log_class_metrics and self.no_track:
            raise ValueError("log_class_metrics is about tracking: leave out --no-track")


@dataclass(frozen=True, kw_only=True)
class Shown(Output):
    """Where the results of an intervention go, and on which images it is shown."""

    panel: ClassVar[str] = "Results"

    examples: int = option(
        0, "Show the edit on this many images of the most and the least selective class.",
        ge=0, le=20,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.examples and self.no_plots:
            raise ValueError(f"examples is {self.examples}: leave out --no-plots to draw them")


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
    epochs: int = option(50, "Passes over the patches, at most.", ge=1)
    patience: int = option(
        5, "A head is done after so many epochs without a better validation mIoU.", ge=1
    )
    patches_per_step: int = option(4096, "Patches per step of the optimiser.", ge=1)
    ignore_null: bool = option(
        False, "Leave out patches labelled 0; else they are what channel 0 learns."
    )
    feature_dtype: FeatureDtype = option("float16", "Precision in which features are kept.")
    memory_gib: float = option(
        4.0, "Features of a split that take more go to a temporary file in the cache.", ge=0.0
    )
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


@dataclass(frozen=True, kw_only=True)
class Quantitative(Setup, LatentChoice):
    """The reference's settings: one flat object for `eval_*`, `get_latent_lookup` and `main`."""

    scale: float = option(-2.0, "Intervention scale; random vectors likely need more.")
    dump_to: Path = option(Path("semseg-runs"), "Folder that receives results.csv.")


S = TypeVar("S", bound=Settings)


def narrow(settings: Settings, to: type[S], **changes: Any) -> S:
    """The part of `settings` that `to` has fields for, with `changes` applied."""
    names = [f.name for f in fields(to) if f.name not in changes and hasattr(settings, f.name)]
    return to(**{name: getattr(settings, name) for name in names}, **changes)


def default_of(setting: Field[Any]) -> Any:
    """The default of a dataclass field, made afresh where it comes from a factory."""
    if setting.default_factory is not MISSING:
        return setting.default_factory()
    return setting.default
