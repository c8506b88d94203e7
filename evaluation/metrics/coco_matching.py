"""Which detection finds which object, by COCO's rule, for all images at once.

The rule is that of pycocotools' ``COCOeval.evaluateImg``: in an image and class the surest
detection comes first, and each takes the free object that it overlaps most, one that counts before
one that does not. Here the surest of all images and classes come first together, at all thresholds
and sizes, then the second ones, and so on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.box_ops import to_xywh

PAIRS_AT_ONCE = 1 << 18  # bounds the memory, and what is worked on stays in the processor's cache


@dataclass(frozen=True)
class Boxes:
    """Objects or detections of all images.

    image: int (N,), the number of its image. label: int (N,), from 1. box: (N, 4) xyxy.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray

    def rows(self, chosen: np.ndarray) -> Boxes:
        """Those of a mask or of indices, in their order."""
        return Boxes(self.image[chosen], self.label[chosen], self.box[chosen])

    @property
    def group(self) -> np.ndarray:
        """int64 (N,): a number for each image and class."""
        return (self.image.astype(np.int64) << 32) + self.label


@dataclass(frozen=True)
class Pairs:
    """A detection and an object of its image and class, each P times.

    detection, object: int (P,), by detection, and in it by ascending IoU; of equal ones the later
    object is last. iou: float64 (P,).
    """

    detection: np.ndarray
    object: np.ndarray
    iou: np.ndarray

    def rows(self, chosen: np.ndarray) -> Pairs:
        """Those of a mask or of indices, in their order."""
        return Pairs(self.detection[chosen], self.object[chosen], self.iou[chosen])


def overlapping(detections: Boxes, objects: Boxes, crowd: np.ndarray, least: float) -> Pairs:
    """All pairs of at least this IoU. crowd: bool, one an object; see ``_overlap``."""
    by_group = np.argsort(objects.group, kind="stable")
    groups, group = objects.group[by_group], detections.group
    first = np.searchsorted(groups, group)
    count = np.searchsorted(groups, group, side="right") - first
    boxes, others = to_xywh(detections.box), to_xywh(objects.box)
    some, total = np.flatnonzero(count), int(count.sum())
    limits = np.searchsorted(np.cumsum(count[some]), range(PAIRS_AT_ONCE, total, PAIRS_AT_ONCE))
    parts = []
    for detection in np.split(some, limits):
        detection = np.repeat(detection, count[detection])
        other = by_group[first[detection] + places(detection)]
        iou = _overlap(boxes[detection], others[other], crowd[other])
        close = iou >= least
        parts.append(Pairs(detection, other, iou).rows(close))
    pairs = Pairs(
        np.concatenate([part.detection for part in parts]),
        np.concatenate([part.object for part in parts]),
        np.concatenate([part.iou for part in parts]),
    )
    return pairs.rows(np.lexsort((pairs.object, pairs.iou, pairs.detection)))


def places(values: np.ndarray) -> np.ndarray:
    """The place of each in its stretch of equal values: 0, 1, 2, 0, 0, 1 for a, a, a, b, c, c."""
    place = np.arange(len(values))
    begins = np.ones(len(values), dtype=bool)
    begins[1:] = values[1:] != values[:-1]
    return place - np.maximum.accumulate(np.where(begins, place, 0))


def _overlap(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU of each box with its other one, both xywh, rounded as pycocotools' ``bbIou`` rounds it.

    With a crowd it is the share of the box that lies inside.
    """
    (x, y, w, h), (u, v, p, q) = boxes.T, others.T
    width = np.minimum(w + x, p + u) - np.maximum(x, u)
    height = np.minimum(h + y, q + v) - np.maximum(y, v)
    common, area = width * height, w * h
    union = np.where(crowd, area, area + p * q - common)
    touching = (width > 0) & (height > 0)
    return np.divide(common, union, out=np.zeros_like(common), where=touching)


MAX_DETECTIONS = 100
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# Areas in square pixels; both ends belong to the range.
SIZES = {
    "all": (0.0, 1e5**2),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}


@dataclass(frozen=True)
class Matches:
    """What the rule decided; S sizes as in ``SIZES``, T thresholds as in ``IOU_THRESHOLDS``.

    The D detections that take part lie by class, in it the surest first and equally sure ones in
    the order given. row: int (D,), their places in the order given. image, label: int (D,). score:
    (D,). rank: int (D,), the place in its image and class, from 0. sized: bool (S, D), of that
    size.

    The N near ones are those that overlap an object of their class enough to find it. near: int
    (N,), their places among the D, ascending. true, excused: bool (S, T, N), found an object that
    counts, or one that does not. found: int (N,), which one, in the order given, at the lowest
    threshold and of any size; -1 for none.

    counts: int (S, K), how many objects of each class count. object_image, object_label: int, of
    the objects that count at any size.
    """

    row: np.ndarray
    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    sized: np.ndarray
    near: np.ndarray
    true: np.ndarray
    excused: np.ndarray
    found: np.ndarray
    counts: np.ndarray
    object_image: np.ndarray
    object_label: np.ndarray

    def above(self, score: float) -> Matches:
        """Without the detections of a lower score.

        Nothing is matched again: by the rule the less sure take nothing from the surer.
        """
        kept = self.score >= score
        kept_near = kept[self.near]
        of_all = ("row", "image", "label", "score", "rank", "sized")
        of_near = ("true", "excused", "found")
        values = {name: getattr(self, name)[..., kept] for name in of_all}
        values |= {name: getattr(self, name)[..., kept_near] for name in of_near}
        near = (np.cumsum(kept) - 1)[self.near[kept_near]]
        return dataclasses.replace(self, near=near, **values)


def match(
    objects: Boxes,
    ignored: np.ndarray,
    crowd: np.ndarray,
    detections: Boxes,
    scores: np.ndarray,
    num_classes: int,
) -> Matches:
    """Match all detections; images in ascending order, labels beyond the classes take no part.

    ignored, crowd: bool, one an object. An ignored object is neither missed nor found: a detection
    of it does not count. A crowd is ignored too, and excuses any number of detections, each by the
    share of it that lies inside. scores: one a detection; of an image and class the
    ``MAX_DETECTIONS`` surest take part.
    """
    row, rank = _ranked(detections, scores, num_classes)
    taking_part = detections.rows(row)
    counting = _sized(objects.box) & ~(ignored | crowd) & _known(objects, num_classes)
    pairs = overlapping(taking_part, objects, crowd, IOU_THRESHOLDS[0])
    near = np.unique(pairs.detection)
    # The near ones of an image and class one after another, surest first: their places are turns.
    group = taking_part.group[near]
    order = np.lexsort((rank[near], group))
    turn = np.empty_like(near)
    turn[order] = places(group[order])
    true, excused, found = _taken(pairs, turn, counting, crowd)
    return Matches(
        row=row,
        image=taking_part.image,
        label=taking_part.label,
        score=scores[row],
        rank=rank,
        sized=_sized(taking_part.box),
        near=near,
        true=true,
        excused=excused,
        found=found,
        counts=np.array(
            [np.bincount(objects.label[c], minlength=num_classes + 1)[1:] for c in counting]
        ),
        object_image=objects.image[counting[0]],
        object_label=objects.label[counting[0]],
    )


def _ranked(
    detections: Boxes, scores: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """``row`` and ``rank`` of ``Matches``."""
    known = np.flatnonzero(_known(detections, num_classes))
    row = known[np.lexsort((-scores[known], detections.label[known]))]
    group = detections.group[row]
    by_group = np.argsort(group, kind="stable")
    rank = np.empty_like(row)
    rank[by_group] = places(group[by_group])
    kept = rank < MAX_DETECTIONS
    return row[kept], rank[kept]


def _known(boxes: Boxes, num_classes: int) -> np.ndarray:
    return (boxes.label >= 1) & (boxes.label <= num_classes)


def _sized(boxes: np.ndarray) -> np.ndarray:
    """bool (S, N): which areas lie in each range."""
    width, height = to_xywh(boxes)[:, 2:].T
    area = width * height
    return np.array([~((area < low) | (area > high)) for low, high in SIZES.values()])


def _taken(
    pairs: Pairs, turn: np.ndarray, counting: np.ndarray, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``true``, ``excused`` and ``found`` of ``Matches``.

    turn: int (N,), when each near detection takes an object; who has the same turn has objects of
    its own to choose from. counting: bool (S, objects). crowd: bool (objects,).
    """
    length = np.unique(pairs.detection, return_counts=True)[1]
    by_turn = np.argsort(turn, kind="stable")
    pairs = pairs.rows(np.argsort(np.repeat(turn, length), kind="stable"))
    length = length[by_turn]
    end = np.cumsum(length)
    begin = end - length
    # What an object is worth to a detection: any that counts more than all others, then by IoU.
    most = int(length.max(initial=1))
    worth = 1 + places(pairs.detection)[:, None] + most * counting.T[pairs.object]
    worth = worth.astype(np.int32)[:, :, None]

    free = np.ones((len(crowd), len(SIZES), len(IOU_THRESHOLDS)), dtype=bool)
    best = np.zeros((len(turn), *free.shape[1:]), dtype=np.int32)
    last = np.cumsum(np.bincount(turn))
    for start, stop in zip(np.append(0, last[:-1]), last, strict=False):
        now = slice(begin[start], end[stop - 1])
        fits = pairs.iou[now, None, None] >= IOU_THRESHOLDS
        offered = worth[now] * (fits & free[pairs.object[now]])
        best[start:stop] = np.maximum.reduceat(offered, begin[start:stop] - begin[start])
        detection, size, threshold = np.nonzero(best[start:stop])
        value = best[start:stop][detection, size, threshold]
        taken = pairs.object[begin[start + detection] + (value - 1) % most]
        free[taken, size, threshold] = crowd[taken]

    simple = best[:, 0, 0]
    found = np.append(pairs.object, -1)[np.where(simple, begin + (simple - 1) % most, -1)]
    back = np.argsort(by_turn)
    best = best[back].transpose(1, 2, 0)
    return best > most, (best > 0) & (best <= most), found[back]
