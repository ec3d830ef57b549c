"""What run.json notes of a run; tables, pages and the store say it from there."""

from dataclasses import replace

from semseg_cli.commands.opening import demo_notes
from semseg_cli.experiment.flip_rate import FLIP_RATE, flip_note
from semseg_cli.experiment.run import Outcome
from semseg_cli.experiment.session import Session
from semseg_cli.runs.groups import sampling_notes
from semseg_cli.settings.methods import Method


def notes_about(method: Method, outcome: Outcome) -> list[str]:
    """What to know of a run's images, draws and precision before reading its numbers."""
    session, report = outcome.session, outcome.report
    patches_bc = outcome.counts.per_image[..., 0].numpy()
    notes = [
        *notes_of_parts(session, uses_sae=method.needs_statistics),
        *sampling_notes(session.dataset.names, outcome.groups, patches_bc),
        *(_of_draws(report.n_draws) if method.is_drawn_by_class else []),
    ]
    if FLIP_RATE in report.extra:
        rate = report.extra[FLIP_RATE]
        notes.append(flip_note(session.setup.dtype, rate, report.n_images))
    return notes


def notes_of_parts(session: Session, *, uses_sae: bool = True) -> list[str]:
    """What to know of the images and the parts of any run."""
    return [*demo_notes(session.setup), *doubts_about(session, uses_sae=uses_sae)]


def doubts_about(session: Session, *, uses_sae: bool = True) -> list[str]:
    """What does not seem to fit of the parts that are used."""
    doubts = session.doubts if uses_sae else replace(session.doubts, sae="")
    return doubts.sentences


def _of_draws(n_draws: int) -> list[str]:
    """What a control's numbers say of other draws."""
    if n_draws == 1:
        return [
            "One random draw for each class: [ ] leaves out how far other draws (--seed) differ."
        ]
    return [f"{n_draws} random draws for each class, counted together; patches: of one draw."]
