"""The images of the training split that heads are chosen on: held out of learning."""

from collections import Counter

import torch

from semseg_cli.data.dataset import Dataset
from semseg_cli.engine.edits import generator
from semseg_cli.errors import UsageError
from semseg_cli.runs.groups import group_names


def hold_out(
    dataset: Dataset, share: float, group_by: str | None, seed: int
) -> tuple[Dataset, Dataset]:
    """The images to learn from, and at least a share of them to choose on, drawn by the seed.

    Images of one group stay together; images with the same contents are one group, too.

    Raises:
        UsageError: all images are of one group, or `group_by` has none for some.
    """
    names = dataset.contents if group_by is None else group_names(dataset.names, group_by)
    sizes = Counter(names)
    groups = sorted(sizes)
    if len(groups) < 2:
        raise UsageError(
            f"The {dataset.split} split has {len(dataset)} images, all of one group: heads are "
            "chosen on images that they do not learn from, so give more, or another --group-by"
        )
    order = torch.randperm(len(groups), generator=generator(seed, "held-out images", 0))
    held: set[str] = set()
    for place in order.tolist()[:-1]:  # one stays to learn from
        if sum(sizes[group] for group in held) >= share * len(dataset):
            break
        held.add(groups[place])
    learnt, chosen_on = (
        dataset.subset([i for i, name in enumerate(names) if (name in held) == is_held])
        for is_held in (False, True)
    )
    return learnt, chosen_on
