"""On which images each class's latent is most active, and where in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from semseg_cli.data.dataset import Dataset
from semseg_cli.data.loader import Loader
from semseg_cli.data.preprocessing import image_pixels
from semseg_cli.experiment.run import Outcome
from semseg_cli.experiment.session import Session
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import stage
from semseg_cli.runs.folder import TOP_IMAGES_FILE, RunFolder
from semseg_cli.runs.rows import csv_text
from semseg_cli.show.activation_picture import as_files, sheet
from semseg_cli.show.latent_cards import picture_name
from semseg_cli.show.run_pictures import attempt

N_SHOWN = 320  # images over all classes: four of each of 80, two of each of 160
N_MOST = 4
SIDES = (128, 96)  # pixels of an image, of few classes and of many


@dataclass(frozen=True)
class TopImages:
    """For each latent its most active images, the most active first: the largest activation of a
    patch, the image's position, and the activations of all its patches."""

    most_kn: Float[Tensor, "k n"]
    positions_kn: Int64[Tensor, "k n"]
    acts_knt: Float[Tensor, "k n t"]


@torch.inference_mode()
def find_top_images(
    pipeline: Pipeline, loader: Loader, latents: Sequence[int], n: int
) -> TopImages:
    """The `n` images (fewer where there are fewer) on which each latent is most active.

    Of equally active images the first ones come first. One pass over the residuals.
    """
    latents_k = torch.tensor(latents, dtype=torch.int64)
    most_kn = torch.empty(len(latents), 0)
    positions_kn = torch.empty(len(latents), 0, dtype=torch.int64)
    acts_knt = torch.empty(len(latents), 0, pipeline.vit.n_patches_per_img)
    for batch, tokens_bnd in pipeline.residuals(loader):
        acts_btk = pipeline.sae.columns(pipeline.patches(tokens_bnd), latents_k)
        acts_kbt = acts_btk.permute(2, 0, 1).float().cpu()
        most_kn = torch.cat([most_kn, acts_kbt.amax(dim=2)], dim=1)
        new_kb = batch.positions_b.expand(len(latents), -1)
        positions_kn = torch.cat([positions_kn, new_kb], dim=1)
        acts_knt = torch.cat([acts_knt, acts_kbt], dim=1)
        best_kn = most_kn.sort(dim=1, descending=True, stable=True).indices[:, :n]
        most_kn, positions_kn = most_kn.gather(1, best_kn), positions_kn.gather(1, best_kn)
        acts_knt = acts_knt.gather(1, best_kn[..., None].expand(-1, -1, acts_knt.shape[2]))
    return TopImages(most_kn, positions_kn, acts_knt)


def add_top_images(
    folders: Sequence[RunFolder], session: Session, latents: Mapping[int, int]
) -> None:
    """latents/*.jpg and top_images.csv of runs of the same latents, by class. Before
    `add_pictures`.

    The images are those whose residuals every intervention reads: the same with kept residuals and
    without. None where there is no lookup split.
    """
    with attempt("pictures of the latents"), stage("Looking for the latents' top images"):
        dataset = session.clean_dataset if latents else None
        if dataset is None:
            return
        rows, files = _pictures(session, dataset, dict(list(latents.items())[:N_SHOWN]))
        for folder in folders:
            for name, data in files.items():
                (folder.path / name).parent.mkdir(exist_ok=True)
                folder.write(name, data)
            folder.write(TOP_IMAGES_FILE, csv_text(rows).encode())


def latents_of(outcome: Outcome) -> dict[int, int]:
    """Class id -> the first latent that is set for it; none where draws or vectors are."""
    if len(outcome.intervention.draws) != 1:
        return {}
    groups = outcome.intervention.first.latents_by_class
    return {class_id: group[0] for class_id, group in groups.items() if group}


def add_latents(folders: Sequence[RunFolder], outcomes: Sequence[Outcome]) -> None:
    """The same for the runs of a sweep; what several scales share is looked for once."""
    by_latents: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for i, outcome in enumerate(outcomes):
        by_latents.setdefault(tuple(latents_of(outcome).items()), []).append(i)
    for latents, same in by_latents.items():
        add_top_images([folders[i] for i in same], outcomes[same[0]].session, dict(latents))


def _pictures(
    session: Session, dataset: Dataset, latents: Mapping[int, int]
) -> tuple[list[dict[str, object]], dict[str, bytes]]:
    """The rows of top_images.csv, and the pictures by their name in the folder."""
    n = max(1, min(N_MOST, N_SHOWN // len(latents)))
    # All images, not this rank's share alone: only the lead draws.
    loader = Loader(dataset, session.loader(dataset, len(latents)).batch_size)
    found = find_top_images(session.pipeline, loader, list(latents.values()), n)
    side = SIDES[0] if len(latents) * N_MOST <= N_SHOWN else SIDES[1]
    rows: list[dict[str, object]] = []
    sheets = {}
    for k, (class_id, latent) in enumerate(latents.items()):
        active = [i for i, most in enumerate(found.most_kn[k].tolist()) if most > 0]
        if not active:
            continue
        positions = found.positions_kn[k].tolist()
        about = {"class_id": class_id, "class_name": dataset.class_names[class_id - 1],
                 "latent": latent}  # fmt: skip
        rows += [
            {**about, "rank": i + 1, "image": dataset.names[positions[i]],
             "activation": float(found.most_kn[k, i]), "split": dataset.split,
             "n_images": len(dataset)}
            for i in active
        ]  # fmt: skip
        shown = [_shown(dataset, positions[i], found.acts_knt[k, i]) for i in active]
        sheets[picture_name(class_id)] = sheet(shown, side)
    return rows, dict(zip(sheets, as_files(list(sheets.values())), strict=True))


def _shown(dataset: Dataset, position: int, acts_t: Tensor) -> tuple[np.ndarray, np.ndarray]:
    image_chw = dataset.image(position)
    shape = [side // dataset.patch_size_px for side in image_chw.shape[1:]]
    return image_pixels(image_chw, dataset.preprocessing), acts_t.reshape(shape).numpy()
