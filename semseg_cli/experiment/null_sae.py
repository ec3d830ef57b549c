"""The session of a control: another SAE in place of the given one, with its own statistics."""

from dataclasses import replace

from semseg_cli.engine.null_saes import pca_sae, random_sae, sampled_inputs, shuffled_sae
from semseg_cli.engine.sae_statistics import cached_stats
from semseg_cli.experiment.session import Session
from semseg_cli.files import cache_folder
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.settings.intervening import Control

MAKERS = {"pca": pca_sae, "random": random_sae}


def on_null_sae(session: Session, control: Control, progress: Progress = silent) -> Session:
    """The session with a null SAE that fits the given one; the statistics have to be complete."""
    if control == "none":
        return session
    pipeline, setup = session.pipeline, session.setup
    if control == "shuffled":
        sae = shuffled_sae(pipeline.sae, setup.seed)
        return _on(session, control, replace(pipeline, sae=sae))
    loader = session.loader(session.lookup_dataset)
    inputs_nd = sampled_inputs(pipeline, loader, progress)
    sae = MAKERS[control](pipeline, inputs_nd, setup.seed)
    stats = cached_stats(
        {name: pipeline.latent_stats.to_tensors()[name] for name in ("act_mean", "act_norm")},
        sae,
        lambda: pipeline.residuals(loader),
        cache_folder(setup.cache_dir),
        progress,
    )
    return _on(session, control, replace(pipeline, sae=sae, stats=stats))


def _on(session: Session, control: Control, pipeline: Pipeline) -> Session:
    """A session that is complete as it is, on the same images."""
    stats = pipeline.latent_stats.to_tensors()
    made = replace(session, pipeline=pipeline, given_stats=stats, null_sae=control)
    return made.with_images_of(session)
