"""What every command opens first: the tracking store, the parts; and what it says of them."""

import logging
from collections.abc import Sequence

from semseg_cli import tracking
from semseg_cli.demo.world import DEMO_CAPTION, is_world
from semseg_cli.experiment.estimate import make_plan
from semseg_cli.experiment.given import NOTHING, Given
from semseg_cli.experiment.session import Session, open_session
from semseg_cli.progress import ASIDE, Progress
from semseg_cli.ranks.group import is_lead, n_ranks
from semseg_cli.settings.inputs import LookupSetup, Setup, StatsSetup, TrainSetup
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import Method
from semseg_cli.settings.output import Recorded
from semseg_cli.show import console
from semseg_cli.tracking.store_address import resolve_uri

log = logging.getLogger("semseg_cli")
WithImages = Setup | LookupSetup | StatsSetup | TrainSetup
DEMO_NOTE = """This is the embedded demo world (drawn scenes, a tiny ViT): it shows the tool,
not DINOv2. Bring your own: --vit-ckpt, --sae-ckpt, --seg-ckpt and --imgs-root."""


def open_store(output: Recorded) -> str | None:
    """The tracking store, known to be reachable; None where this process tracks nothing."""
    if output.no_track or output.dry_run or not is_lead():
        return None
    uri = resolve_uri(output.tracking_uri)
    tracking.probe(uri)
    where = tracking.check_experiment(
        uri, output.experiment_name, output.experiment_id, output.artifact_root
    )
    if where is not None:
        console.say(where, quiet=output.quiet)
    return uri


def open_parts(
    setup: Setup,
    output: Recorded,
    progress: Progress,
    *,
    needs_head: bool = True,
    uses_sae: bool = True,
    given: Given = NOTHING,
) -> Session:
    """The session of a command, its parts tried; in the demo world the user is told so."""
    tell_of_demo(setup, output)
    session = open_session(setup, progress, needs_head=needs_head, given=given)
    judge(session, uses_sae=uses_sae)
    return session


def judge(session: Session, *, uses_sae: bool = True) -> None:
    """Tries the parts that are used on a few images, and says what does not seem to fit."""
    session.judge(uses_sae=uses_sae)
    for sentence in session.doubts.sentences:
        log.warning("%s", sentence, extra={ASIDE: True})


def is_demo(setup: WithImages) -> bool:
    """Whether the images are those of the demo world."""
    return is_world(setup.imgs.root)


def demo_notes(setup: WithImages) -> tuple[str, ...]:
    """What captions say where the images are those of the demo world."""
    return (DEMO_CAPTION,) if is_demo(setup) else ()


def tell_of_demo(setup: WithImages, output: Recorded) -> None:
    """Says so where the images are those of the demo world."""
    if is_demo(setup):
        console.say(DEMO_NOTE, quiet=output.quiet)


def plan_lines(
    session: Session, methods: Sequence[Method | Choose], n_more_tails: int = 0
) -> list[str]:
    """What a command would do, and how long it would take."""
    device = session.pipeline.device
    where = f"{n_ranks()} x {device.type}" if n_ranks() > 1 else device
    plan = make_plan(session, methods, n_more_tails)
    return [line.format(device=where) for line in plan.lines()]


def print_plan(session: Session, methods: Sequence[Method | Choose]) -> None:
    """What a command would do, for `--dry-run`."""
    tell_plan(plan_lines(session, methods), is_all=True)


def tell_plan(lines: Sequence[str], *, is_all: bool, quiet: bool = False) -> None:
    """Says what is to be done: as the result where that is all that was asked for."""
    for line in lines:
        if is_all:
            console.stdout().print(line, markup=False)
        else:
            console.say(line, quiet=quiet)
