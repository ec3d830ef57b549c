"""What was sampled: images in groups, draws of controls, and splits that must not overlap."""

import logging

from semseg_cli.errors import UsageError
from semseg_cli.experiment.session import Session
from semseg_cli.runs.groups import group_names
from semseg_cli.runs.inference import draws_needed
from semseg_cli.settings.base import narrow
from semseg_cli.settings.methods import Method

log = logging.getLogger("semseg_cli")


def image_groups(session: Session) -> list[str] | None:
    """The group of every evaluated image; None where images are not grouped.

    Raises:
        UsageError: `--group-by` has no group for an image.
    """
    pattern = session.setup.group_by
    return None if pattern is None else group_names(session.dataset.names, pattern)


def with_draws(session: Session, method: Method) -> Method:
    """The method with as many draws as the interval of its comparison needs, unless it says.

    A draw of the label protocol is one pass through the rest of the network whatever the number of
    classes, so there are as many as one class alone needs. In the class protocol a draw costs as
    much as the run that it controls: the classes stand for draws, where half of them, for they are
    of unequal size, are enough. What is drawn for every image needs one.
    """
    if not method.is_open:
        return method
    if not method.is_drawn_by_class:
        return narrow(method, type(method), draws=1)
    n_classes = len(session.classes_of(session.dataset))
    n_alike = 1 if session.setup.protocol == "label" else n_classes / 2
    return narrow(method, type(method), draws=draws_needed(n_alike))


def overlap(session: Session, method: Method) -> list[str]:
    """The evaluated images that, by their contents, are among those that the method learns from.

    One split for both is the user's choice, which every table tells, and no overlap.
    """
    setup = session.setup
    learns = method.looks_up or method.n_more_passes
    if not learns or setup.lookup_split == setup.imgs.split:
        return []
    seen = set(session.lookup_dataset.contents)
    pairs = zip(session.dataset.names, session.dataset.contents, strict=True)
    return [name for name, contents in pairs if contents in seen]


def warn_of_seen(session: Session) -> None:
    """Logs a warning where evaluated images are among those that the head was trained on."""
    head = session.pipeline.head
    if head is None or not head.seen:
        return
    names, contents = session.dataset.names, session.dataset.contents
    both = [name for name, found in zip(names, contents, strict=True) if found in head.seen]
    if both:
        log.warning(
            "The head was trained, or chosen, on %d of the %d evaluated images (%s): its "
            "predictions there are better than on others; take another --imgs-split.",
            len(both), len(names), ", ".join(both[:3]),
        )  # fmt: skip


def refuse_overlap(session: Session, method: Method) -> None:
    """Raises UsageError where images are in both splits and `--allow-overlap` is not given."""
    setup = session.setup
    both = [] if setup.allow_overlap else overlap(session, method)
    if both:
        raise UsageError(
            f"{len(both)} of {len(session.dataset)} images of the {setup.imgs.split} split are "
            f"also in the {setup.lookup_split} split ({', '.join(both[:3])}): latents would be "
            "judged on images that they were chosen on; take them out of one, or give "
            "--allow-overlap"
        )
