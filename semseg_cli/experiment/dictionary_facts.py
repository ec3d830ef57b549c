"""What a dictionary is by itself, as numbers by name: its statistics, its reconstruction."""

from collections.abc import Mapping

from semseg_cli.experiment.session import Session
from semseg_cli.experiment.splicing import Splicing
from semseg_cli.runs.dictionaries import FACTS


def summary_of(session: Session) -> dict[str, int | float]:
    """What the statistics say of the autoencoder.

    `l0` is the mean number of active latents per patch, `dead_share` the share of latents that are
    never active.
    """
    stats, dataset = session.pipeline.latent_stats, session.lookup_dataset
    n_alive = int((stats.sparsity > 0).sum())
    d_sae = len(stats.sparsity)
    return {
        "l0": float(stats.sparsity.double().sum()),
        "dead_share": 1 - n_alive / d_sae,
        "n_alive": n_alive,
        "d_sae": d_sae,
        "act_norm": stats.act_norm,
        "mean_norm": float(stats.act_mean.double().norm()),
        "n_images": len(dataset),
        "n_patches": len(dataset) * session.pipeline.vit.n_patches_per_img,
    }


def numbers_of(row: Mapping[str, float], splicing: Splicing) -> dict[str, float]:
    """All numbers of the statistics, and of both reconstructions."""
    numbers = {name: float(value) for name, value in row.items()}
    for prefix, of_one in zip(("", "pca_"), splicing.rows, strict=True):
        known = {k: v for k, v in of_one.items() if isinstance(v, int | float) and k != "rank"}
        numbers |= {f"{prefix}{key}": float(value) for key, value in known.items()}
    return numbers


def facts_of(session: Session, splicing: Splicing) -> dict[str, float]:
    """Of these numbers those that a run of the dictionary's latents is told with."""
    numbers = numbers_of(summary_of(session), splicing)
    return {key: numbers[key] for key in FACTS if key in numbers}
