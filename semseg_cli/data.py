"""Dataset folders -> batches of preprocessed images and patch labels.

Images and masks are paired by stem. Every image keeps its index in the split, whatever subset is
used, so that random draws can belong to images.
"""

import hashlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from semseg_cli import interrupts
from semseg_cli.errors import SemsegError
from semseg_cli.typed import typed

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
CLASS_FILE = "objectInfo150.txt"
LABEL_MODES = ("L", "P")


@dataclass(frozen=True)
class Preprocessing:
    """From a picture to a tensor: resize without keeping the aspect, centre crop, normalise."""

    resize: tuple[int, int] = (256, 256)
    crop: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def pixels(self, picture: Image.Image, resample: Image.Resampling) -> np.ndarray:
        """The resized, cropped picture as a uint8 array."""
        (height, width), (crop_h, crop_w) = self.resize, self.crop
        top, left = (height - crop_h) // 2, (width - crop_w) // 2
        small = picture.resize((width, height), resample)
        return np.asarray(small.crop((left, top, left + crop_w, top + crop_h)))


@typed
def image_tensor(picture: Image.Image, preprocessing: Preprocessing) -> Float32[Tensor, "3 h w"]:
    """The network's input: RGB, scaled to 0..1, then normalised."""
    pixels = preprocessing.pixels(picture.convert("RGB"), Image.Resampling.BILINEAR)
    scaled = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    return ((scaled - mean) / std).contiguous()


@typed
def label_tensor(mask: Image.Image, preprocessing: Preprocessing) -> UInt8[Tensor, "h w"]:
    """The labels of the same pixels, by nearest neighbour."""
    return torch.from_numpy(preprocessing.pixels(mask, Image.Resampling.NEAREST).copy())


@typed
def patch_pixels(labels_hw: UInt8[Tensor, "h w"], patch_size_px: int) -> UInt8[Tensor, "t px"]:
    """The pixels of each patch, patches in row-major order."""
    n_rows, n_cols = (side // patch_size_px for side in labels_hw.shape)
    grid = labels_hw.reshape(n_rows, patch_size_px, n_cols, patch_size_px)
    return grid.permute(0, 2, 1, 3).reshape(n_rows * n_cols, patch_size_px**2)


@typed
def patch_modes(
    pixels_tp: UInt8[Tensor, "t px"],
) -> tuple[Int64[Tensor, " t"], Float64[Tensor, " t"]]:
    """The most frequent label of each patch (ties go to the smallest), and its share of pixels."""
    n_patches, n_pixels = pixels_tp.shape
    cells = pixels_tp.long() + 256 * torch.arange(n_patches)[:, None]
    counts = torch.bincount(cells.reshape(-1), minlength=256 * n_patches).reshape(n_patches, 256)
    # numpy's argmax is documented to take the first maximum, torch's is not.
    modes = torch.from_numpy(counts.numpy().argmax(axis=1))
    return modes, counts.max(dim=1).values.double() / n_pixels


@typed
def get_patch_mask(
    pixel_labels_NP: UInt8[Tensor, "n patch_px"], threshold: float
) -> Bool[Tensor, " n"]:
    """True where at least `threshold` of a patch's pixels share one label."""
    return patch_modes(pixel_labels_NP)[1] >= threshold


@typed
def get_patch_i(
    i: Int[Tensor, "batch width height"], n_patches_per_img: int
) -> Int[Tensor, "batch width height"]:
    """Image index at each cell of the patch grid -> global patch index, row-major in the image.

    Raises:
        ValueError: the grid is not the square one of `n_patches_per_img` patches.
    """
    _, width, height = i.shape
    if width != height or width * height != n_patches_per_img:
        raise ValueError(
            f"the grid is {width} x {height}: expected a square one of {n_patches_per_img} patches"
        )
    cells = torch.arange(n_patches_per_img, dtype=i.dtype, device=i.device).view(width, height)
    return i * n_patches_per_img + cells


@dataclass(frozen=True)
class Sample:
    """One image. `position` counts within the subset in use, `index` within the whole split."""

    image_chw: Tensor
    labels_t: Tensor
    share_t: Tensor
    position: int
    index: int


@dataclass(frozen=True)
class Batch:
    """Images with the label of each patch and the share of its pixels that agree on it."""

    images_bchw: Float[Tensor, "b c h w"]
    labels_bt: Int64[Tensor, "b t"]
    share_bt: Float64[Tensor, "b t"]
    positions_b: Int64[Tensor, " b"]
    indices_b: Int64[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.positions_b)


@dataclass(frozen=True)
class Dataset(TorchDataset):
    """Images and masks of one split, or of a fixed even subset of it."""

    root: Path
    split: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    indices: tuple[int, ...]
    class_names: tuple[str, ...]
    patch_size_px: int
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Sample:
        path, mask_path = self.images[position], self.masks[position]
        picture = _open(path)
        mask = _open(mask_path)
        labels_hw = label_tensor(mask, self.preprocessing)
        self._check_labels(mask, mask_path)
        labels_t, share_t = patch_modes(patch_pixels(labels_hw, self.patch_size_px))
        image_chw = image_tensor(picture, self.preprocessing)
        return Sample(image_chw, labels_t, share_t, position, self.indices[position])

    def subset(self, positions: Sequence[int]) -> "Dataset":
        """Some of the images; they keep their indices in the split."""
        return replace(
            self,
            images=tuple(self.images[i] for i in positions),
            masks=tuple(self.masks[i] for i in positions),
            indices=tuple(self.indices[i] for i in positions),
        )

    def _check_labels(self, mask: Image.Image, path: Path) -> None:
        largest = int(np.asarray(mask).max())
        if largest > len(self.class_names):
            raise SemsegError(
                f"The mask {path} holds label {largest}, but there are "
                f"{len(self.class_names)} classes: check the dataset against {CLASS_FILE}."
            )

    @cached_property
    def digest(self) -> str:
        """A digest of the names and contents of all files in use, and of the class names."""
        digest = hashlib.blake2b("\n".join(self.class_names).encode(), digest_size=16)
        for path in (*self.images, *self.masks):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:  # closes the file, also where loading fails
            picture.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise SemsegError(
            f"The image {path} cannot be read ({error}): replace it or remove it and its partner."
        ) from error
    return picture


def open_dataset(
    root: Path,
    split: str,
    patch_size_px: int,
    *,
    preprocessing: Preprocessing | None = None,
    n_images: int | None = None,
    n_classes: int | None = None,
) -> Dataset:
    """The images and masks of a split below a folder in the ADE20K layout.

    With `n_images`, a fixed even subset. `n_classes` names the classes by their ids where the
    folder has no class file.

    Raises:
        SemsegError: the layout is wrong, a file has no partner, or sizes or modes do not fit.
    """
    check_layout(root, split)
    images, masks = (_by_stem(root / part / split) for part in ("images", "annotations"))
    for kind, missing in (
        ("mask", images.keys() - masks.keys()),
        ("image", masks.keys() - images.keys()),
    ):
        if missing:
            stem = sorted(missing)[0]
            raise SemsegError(
                f"{(images.get(stem) or masks[stem])} has no {kind} ({len(missing)} such files): "
                "images/ and annotations/ need files of the same names."
            )
    if not images:
        raise SemsegError(f"The split {split!r} of {root} holds no images: check --imgs-split.")
    stems = sorted(images)
    indices = even_subset(len(stems), n_images)
    pairs = [(images[stems[i]], masks[stems[i]]) for i in indices]
    for pair in pairs:
        _check_pair(*pair)
    return Dataset(
        root=root,
        split=split,
        images=tuple(image for image, _ in pairs),
        masks=tuple(mask for _, mask in pairs),
        indices=tuple(indices),
        class_names=_class_names(root, n_classes),
        patch_size_px=patch_size_px,
        preprocessing=preprocessing or Preprocessing(),
    )


def even_subset(n_all: int, n_wanted: int | None) -> list[int]:
    """Evenly spread indices; all of them where none or too many are wanted."""
    if n_wanted is None or n_wanted >= n_all:
        return list(range(n_all))
    return [i * n_all // n_wanted for i in range(n_wanted)]


def check_layout(root: Path, split: str) -> None:
    """Refuses a folder that is no ADE20K root, and says where the root seems to be."""
    if not root.is_dir():
        raise SemsegError(f"The dataset folder {root} does not exist: check --imgs-root.")
    if not ((root / "images").is_dir() and (root / "annotations").is_dir()):
        inside = [d for d in sorted(root.iterdir()) if (d / "images").is_dir()]
        above = [d for d in root.absolute().parents[:3] if (d / "annotations").is_dir()]
        hint = [f": did you mean {d}?" for d in inside[:1] + above[:1]] or [": check --imgs-root."]
        raise SemsegError(
            f"The dataset folder {root} has no images/ and annotations/ folders{hint[0]}"
        )
    for part in ("images", "annotations"):
        if not (root / part / split).is_dir():
            found = sorted(d.name for d in (root / part).iterdir() if d.is_dir())
            raise SemsegError(
                f"{root / part} has no split {split!r}, only {', '.join(found) or 'nothing'}: "
                "check --imgs-split and --lookup-split."
            )


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise SemsegError(f"{found[path.stem]} and {path} share a name: keep one of them.")
            found[path.stem] = path
    return found


def _check_pair(image_path: Path, mask_path: Path) -> None:
    """Reads two headers; refuses a mask of another size or mode before any pixel is decoded."""
    try:
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            size, mask_size, mode = image.size, mask.size, mask.mode
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise SemsegError(
            f"The image {image_path} or its mask {mask_path} cannot be read ({error}): "
            "replace it or remove both."
        ) from error
    if size != mask_size:
        raise SemsegError(
            f"The mask {mask_path} is {mask_size[0]} x {mask_size[1]} pixels, its image "
            f"{size[0]} x {size[1]}: they must have the same size."
        )
    if mode not in LABEL_MODES:
        raise SemsegError(
            f"The mask {mask_path} has mode {mode!r}, expected an 8-bit one of label ids "
            f"({' or '.join(LABEL_MODES)}): convert it."
        )


def _class_names(root: Path, n_classes: int | None) -> tuple[str, ...]:
    """First synonyms from the class file, by id; the ids where there is no file."""
    path = root / CLASS_FILE
    if not path.is_file():
        if n_classes is None:
            raise SemsegError(f"{root} has no {CLASS_FILE}: put it beside images/.")
        return tuple(str(i + 1) for i in range(n_classes))
    names = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        for line in filter(str.strip, lines):
            index, *_, name = line.split("\t")
            names[int(index)] = name.split(",")[0].strip()
    except (UnicodeDecodeError, ValueError) as error:
        raise SemsegError(
            f"{path} cannot be read ({error}): expected tab-separated Idx, Ratio, Train, Val, Name."
        ) from error
    if sorted(names) != list(range(1, len(names) + 1)) or not 0 < len(names) <= 255:
        raise SemsegError(f"{path} must list the ids 1 to C (at most 255) once each.")
    return tuple(names[i] for i in sorted(names))


class Loader:
    """Batches of a dataset, in order; the same images whatever the batch size or worker count.

    Raises:
        SemsegError: while iterating, for a file that cannot be read or a label beyond the classes.
    """

    def __init__(self, dataset: Dataset, batch_size: int, n_workers: int = 0) -> None:
        self.dataset = dataset
        self._loader = DataLoader(
            _Careful(dataset),
            batch_size,
            num_workers=n_workers,
            collate_fn=_collate,
            worker_init_fn=_leave_signals_to_parent,
        )

    def __iter__(self) -> Iterator[Batch]:
        with interrupts.held():  # forking runs callbacks that drop exceptions
            batches = iter(self._loader)
        for batch in batches:
            if isinstance(batch, SemsegError):
                raise batch
            yield batch


def _leave_signals_to_parent(_worker: int) -> None:
    """A worker says nothing on Ctrl-C, and dies when its parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Careful(TorchDataset):
    """Hands known errors on as values: torch wraps those raised in a worker in its traceback."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Sample | SemsegError:
        try:
            return self.dataset[position]
        except SemsegError as error:
            return error


def _collate(samples: list[Sample | SemsegError]) -> Batch | SemsegError:
    good = [sample for sample in samples if isinstance(sample, Sample)]
    if len(good) < len(samples):
        return next(sample for sample in samples if isinstance(sample, SemsegError))
    return Batch(
        images_bchw=torch.stack([s.image_chw for s in good]),
        labels_bt=torch.stack([s.labels_t for s in good]),
        share_bt=torch.stack([s.share_t for s in good]),
        positions_b=torch.tensor([s.position for s in good]),
        indices_b=torch.tensor([s.index for s in good]),
    )
