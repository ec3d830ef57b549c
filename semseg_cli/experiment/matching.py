"""Latents at values that make their edits as long as asked for, on the lookup split."""

from semseg_cli.engine.common_length import Matched, at_length
from semseg_cli.engine.latent_edits import Groups
from semseg_cli.experiment.session import Session
from semseg_cli.progress import Progress
from semseg_cli.settings.inputs import Protocol


def matched(
    session: Session,
    scale: float,
    latents: Groups,
    length: float,
    protocol: Protocol,
    progress: Progress,
) -> Matched:
    """The latents matched in length on the lookup split; see `at_length`."""
    dataset = session.lookup_dataset
    return at_length(
        session.pipeline,
        scale,
        latents,
        length,
        lambda n_latents: session.loader(dataset, n_latents),
        protocol,
        progress,
    )
