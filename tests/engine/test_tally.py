"""Parts that were kept and the rest that is counted make what one uninterrupted pass makes."""

from pathlib import Path

import pytest
import torch
from worlds import World, members

from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import set_latents
from semseg_cli.engine.manifold import fit_manifold
from semseg_cli.engine.measured import Measured
from semseg_cli.engine.random_edits import rand_vec
from semseg_cli.experiment.session import Session
from semseg_cli.progress import Advance, silent
from semseg_cli.runs.journal import Journal
from semseg_cli.settings.inputs import Protocol

LATENTS = {1: 3, 2: 13, 4: 5, 5: 20}
RUN = {"--seed": 42}


def interventions(session: Session) -> list[Intervention]:
    """A latent of each class at two scales, and two draws of a shared edit."""
    pipeline = session.pipeline
    set_at = [set_latents(pipeline, "set", scale, members(LATENTS)) for scale in (-2.0, -1.0)]
    drawn = tuple(rand_vec(pipeline, 1.0, seed=3, draw=draw) for draw in range(2))
    return [*(Intervention((edit,)) for edit in set_at), Intervention(drawn)]


def counted(
    session: Session, protocol: Protocol = "class", journal: Journal | None = None
) -> list[Measured]:
    return evaluate(
        session.pipeline,
        interventions(session),
        session.loader(session.dataset),
        protocol,
        n_classes=5,
        manifold=fit_manifold(session.pipeline, session.loader(session.lookup_dataset)),
        journal=journal,
    )


def tensors(found: list[Measured]) -> list[torch.Tensor]:
    made = [tensor for one in found for tensor in (*one.by_image, *one.totals)]
    assert found[0].outcomes is not None
    return [*made, *found[0].outcomes.reference.totals]


def is_same(found: list[Measured], other: list[Measured]) -> bool:
    """Whether all numbers are, bit by bit."""
    pairs = zip(tensors(found), tensors(other), strict=True)
    return all(torch.equal(one, two) for one, two in pairs)


@pytest.fixture(scope="module")
def session(tiny_world: World) -> Session:
    return tiny_world.session(batch_size=2)


class Noting(Journal):
    """A journal that tells what was written: the inputs, the edits, then the records."""

    def __init__(self, path: Path) -> None:
        self.written: list[bytes] = []
        super().__init__(path, RUN, is_new=True)

    def append(self, record: bytes) -> None:
        self.written.append(record)
        super().append(record)


@pytest.mark.parametrize("protocol", ["class", "label"])
def test_any_prefix_and_the_rest_make_the_whole(
    session: Session, tmp_path: Path, protocol: Protocol
) -> None:
    whole = counted(session, protocol)
    with Noting(tmp_path / "whole") as noting:
        assert is_same(counted(session, protocol, noting), whole)
    _, edits, *records = noting.written
    assert len(records) == -(-len(session.dataset) // 2) > 2
    for n_kept in range(len(records) + 1):
        with Journal(tmp_path / "cut", RUN, is_new=True) as journal:
            assert list(journal.records(edits)) == []
            for record in records[:n_kept]:
                journal.append(record)
        with Journal(tmp_path / "cut", RUN, is_new=False) as journal:
            assert is_same(counted(session, protocol, journal), whole)
        assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()


def test_kept_images_are_not_run_again(session: Session, tmp_path: Path) -> None:
    with Noting(tmp_path / "whole") as noting:
        whole = counted(session, journal=noting)
    told: list[int] = []

    def noted(description: str, total: int, unit: str = "images") -> Advance:
        told.append(total)
        return silent(description, total, unit)

    with Journal(tmp_path / "whole", RUN, is_new=False) as journal:
        found = evaluate(
            session.pipeline,
            interventions(session),
            session.loader(session.dataset),
            n_classes=5,
            journal=journal,
            progress=noted,
        )
    assert told == [0]
    assert is_same(found, whole)


def test_other_edits_are_counted_anew(session: Session, tmp_path: Path) -> None:
    with Noting(tmp_path / "kept") as noting:
        counted(session, journal=noting)
    edit = set_latents(session.pipeline, "set", -2.0, members({**LATENTS, 4: 6}))

    def run(journal: Journal | None) -> list[Measured]:
        return evaluate(
            session.pipeline,
            [Intervention((edit,))],
            session.loader(session.dataset),
            n_classes=5,
            journal=journal,
        )

    with Journal(tmp_path / "kept", RUN, is_new=False) as journal:
        assert is_same(run(journal), run(None))
