"""The seeded split of a data set that comes without one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from data.dataset import Annotation
from utils.errors import UserError

VALIDATION_FRACTION = 0.2  # of the images, by default


def seeded_split(
    annotations: Sequence[Annotation], validation_fraction: float, seed: int
) -> tuple[list[Annotation], list[Annotation]]:
    """(training, validation), each sorted by path, from the records, fraction and seed alone.

    The order of ``annotations`` plays no part. Training goes first: an image moves to validation
    only if another image of each of its classes stays behind, so no class is lost to training,
    and validation may get fewer images than requested. Images that bring a class which validation
    does not have yet are moved first. Raises UserError when nothing can be moved.
    """
    if not 0 < validation_fraction < 1:
        raise UserError(
            f"validation fraction {validation_fraction:g}: expected a number between "
            "0 and 1, for example 0.2."
        )
    records = sorted(annotations, key=lambda a: a.image_path.as_posix())
    count = min(max(1, round(validation_fraction * len(records))), len(records) - 1)
    order = list(range(len(records)))
    random.Random(seed).shuffle(order)

    left = Counter(name for a in records for name in set(a.names))
    moved: set[int] = set()
    seen: set[str] = set()
    for only_new in (True, False):
        for index in order:
            names = set(records[index].names)
            if len(moved) >= count:
                break
            if index in moved or (only_new and names <= seen) or any(left[n] < 2 for n in names):
                continue
            moved.add(index)
            seen |= names
            left.subtract(names)
    if not moved:
        raise UserError(
            f"{len(records)} image(s) cannot be split into training and validation: "
            "each is the only one of some class. Add images, or give a validation "
            "split of their own."
        )
    training = [a for i, a in enumerate(records) if i not in moved]
    return training, [records[i] for i in sorted(moved)]
