"""What a run reads, and where and how it computes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, get_args

from semseg_cli.settings.base import Settings, option, to_size

VitFamily = Literal["dinov2", "dinov3", "clip", "siglip", "vit", "deit", "vit_mae", "beit", "timm"]
VitSite = Literal["auto", "resid-post", "norm-out", "mlp-out", "resid-mid", "attn-out", "resid-pre"]
Protocol = Literal["class", "label"]
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16", "float16"]
SaeFormat = Literal[
    "auto",
    "saev",
    "saelens",
    "dictionary_learning",
    "dictionary_learning_topk",
    "dictionary_learning_batchtopk",
    "sparsify",
    "visaebench",
    "clipscope",
    "usae",
    "openai",
    "overcomplete",
    "prisma",
    "patchsae",
]
CentreInput = Literal["auto", "yes", "no"]
DataFormat = Literal[
    "auto", "ade20k", "voc2012", "pascal-context", "cityscapes", "coco-stuff", "parquet", "toml"
]


LEAST_SAMPLE = 3  # images without the class: fewer show no spread


@dataclass(frozen=True, kw_only=True)
class Imgs(Settings):
    """A dataset: a folder in a known layout and one of its splits."""

    panel: ClassVar[str] = "Data"

    root: Path | None = option(
        None, "Dataset: a folder, or a dataset.toml. For layouts see --data-format.", path=True
    )
    split: str = option("validation", "Split on which interventions are evaluated.")


@dataclass(frozen=True, kw_only=True)
class Vit(Settings):
    """The vision transformer, and what is expected of it."""

    panel: ClassVar[str] = "Model"

    vit_family: VitFamily = option(
        "dinov2",
        "Family of the vision transformer: dinov2, dinov3, clip, siglip, vit, deit, vit_mae, beit, "
        "timm.",
    )
    vit_ckpt: str | None = option(
        None, "Vision transformer: alias, hub id or local folder.", path=True
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
    """The vision transformer, and a sparse autoencoder of what is in it."""

    panel: ClassVar[str] = "Model"

    vit_layer: int | None = option(
        None,
        "Block of the SAE, counted from 1. Else what its file says, else 11.",
        ge=1,
    )
    vit_site: VitSite = option(
        "auto",
        "Where the SAE reads and is edited: resid-post, norm-out (what the head reads), mlp-out, "
        "resid-mid, attn-out, resid-pre; auto: what its file says, else resid-post.",
    )
    sae_ckpt: str | None = option(
        None, "Sparse autoencoder: file, folder or hf:// path.", path=True
    )
    sae_format: SaeFormat = option(
        "auto",
        f"Format of the autoencoder: {', '.join(get_args(SaeFormat)[1:])}; auto looks inside.",
    )
    sae_centre_input: CentreInput = option(
        "auto",
        "Whether b_dec is subtracted before encoding, yes or no; auto does what the format says, "
        "and measures both where it does not.",
    )
    allow_cls_sae: bool = option(
        False, "Run an SAE that was trained on CLS tokens alone, with a warning."
    )
    stats: str | None = option(
        None, "Statistics of the SAE: the file or run folder that `stats` made, or a file of some "
        "of them. The next four win over it.", path=True,
    )  # fmt: skip
    act_mean: float | str | None = option(
        None,
        "SAE input mean (file, 0 for none, or measured); else computed where "
        "the SAE's format leaves it open.",
        path=True,
    )
    act_norm: float | str | None = option(
        None, "SAE input norm (number, file, or measured); else likewise.", path=True
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
        None, "Linear segmentation head. A file, or a folder of *_step{n}.pt.", path=True
    )


@dataclass(frozen=True, kw_only=True)
class LookupData(Settings):
    """A dataset, and its images that anything is learnt or chosen on."""

    panel: ClassVar[str] = "Data"

    imgs: Imgs = field(default_factory=Imgs)
    data_format: DataFormat = option(
        "auto",
        "Layout of the dataset folder: ade20k, voc2012, pascal-context, cityscapes, "
        "coco-stuff, parquet; auto looks inside. toml: as its dataset.toml says.",
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
        "What is edited and counted. class: edit every patch with one class's latent, count that "
        "class only. "
        "label: edit each patch with its own label's latent, count all classes at once.",
    )
    other_images: int | str = option(
        "auto",
        "Images without the class that each class of the class protocol is run on, beside all with "
        "it: a number, all, or auto (as many as have it, at least 100).",
    )
    min_patches: int = option(
        50, "Classes with fewer predicted patches stay out of macro means.", ge=0
    )
    allow_overlap: bool = option(
        False, "Go on where images that latents are chosen on are also evaluated."
    )
    group_by: str | None = option(
        None, "Images of one drive, patient or scene count as one sample: a regular expression "
        "that finds its name in theirs, or FILE.csv:COLUMN.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.n_other_images

    @property
    def n_other_images(self) -> int | Literal["auto", "all"]:
        """`other_images` as a number, where it is one."""
        text = str(self.other_images)
        if text == "auto":
            return "auto"
        if text == "all":
            return "all"
        if text.isdecimal() and len(text) <= 9 and int(text) >= LEAST_SAMPLE:
            return int(text)
        raise ValueError(
            f"other_images is {text!r}: give auto, all, or a number, at least {LEAST_SAMPLE}"
        )


@dataclass(frozen=True, kw_only=True)
class Seeded(Settings):
    """Where random draws come from; another seed, other results."""

    panel: ClassVar[str] = "Measurement"

    seed: int = option(42, "Seed of all random draws.", ge=0)


@dataclass(frozen=True, kw_only=True)
class Compute(Settings):
    """Where and how the numbers are computed; none of it changes a result in float32."""

    panel: ClassVar[str] = "Compute"

    device: Device = option("auto", "Device; auto takes CUDA where there is one.")
    dtype: Dtype = option(
        "float32", "Precision of the ViT: float32 (the exact mode), bfloat16 or float16."
    )
    batch_size: int = option(
        128,
        "Images per batch, at most: fewer where --memory-budget holds no more, and of evaluated "
        "images 1/16 of them (8 or more), which is what a stopped run keeps.",
        ge=1,
        le=100_000,
    )
    memory_budget: float | None = option(
        None, "GiB for tensors of a run (1 on a CPU, a quarter of the memory of a GPU): it decides "
        "how many images and edited images go through at once.", gt=0.0, le=100_000.0,
    )  # fmt: skip
    n_workers: int | None = option(
        None, "Image loading processes (0 on a CPU, else one per core up to 16).",
        flag="workers", ge=0, le=256,
    )  # fmt: skip
    cache_dir: Path | None = option(
        None, "Folder for residuals, statistics and the demo world (your user cache folder)."
    )
    no_cache: bool = option(False, "Neither read nor keep residuals on disk.")
    cache_limit: float = option(
        32.0,
        "Most GiB of residuals on disk; those not used for longest go first.",
        ge=0.0,
        le=100_000.0,
    )


@dataclass(frozen=True, kw_only=True)
class StatsSetup(Compute, LookupData, Model):
    """What the statistics of an autoencoder need, the head only for what its reconstruction does.

    Fields come in the reverse order of the bases.
    """


@dataclass(frozen=True, kw_only=True)
class LookupSetup(Compute, Data, Model):
    """What choosing latents needs."""


@dataclass(frozen=True, kw_only=True)
class Setup(Compute, Seeded, Measure, Data, Model):
    """Everything an experiment needs except the choice of the intervention."""


@dataclass(frozen=True, kw_only=True)
class TrainSetup(Compute, Seeded, Splits, Vit):
    """What training heads needs: neither an autoencoder nor a head."""
