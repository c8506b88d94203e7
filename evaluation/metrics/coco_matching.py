"""Matches the detections of all images to the objects, by COCO's rule.

The rule is that of pycocotools' ``COCOeval.evaluateImg``. In each image and class, here called a
group, detections are matched by descending score: each takes the free object with the highest IoU,
and an ignored object only where no other one is left. pycocotools goes through groups, thresholds
and area ranges one by one. Here the first detections of all groups are matched together, at all
thresholds and in all area ranges, then the second ones, and so on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.box_ops import overlap, to_xywh

MAX_DETECTIONS = 100  # per image and class
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# Areas in square pixels; both ends belong to the range.
AREA_RANGES = {
    "all": (0.0, 1e5**2),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}
PAIRS_AT_ONCE = 1 << 18  # bounds the memory and fits the processor's cache


@dataclass(frozen=True)
class Boxes:
    """Objects or detections of all images.

    image: int (N,), the number of its image. label: int (N,), from 1. box: (N, 4) xyxy.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray

    def rows(self, chosen: np.ndarray) -> Boxes:
        """The rows of a bool mask or of indices, in their order."""
        return Boxes(self.image[chosen], self.label[chosen], self.box[chosen])

    @property
    def group(self) -> np.ndarray:
        """int64 (N,): a number for each image and class."""
        return (self.image.astype(np.int64) << 32) + self.label


@dataclass(frozen=True)
class Pairs:
    """Pairs of a detection and an object of the same group.

    detection, object: int (P,), indices, by ascending detection, then ascending IoU, then ascending
    object. iou: float64 (P,).
    """

    detection: np.ndarray
    object: np.ndarray
    iou: np.ndarray

    def rows(self, chosen: np.ndarray) -> Pairs:
        """The rows of a bool mask or of indices, in their order."""
        return Pairs(self.detection[chosen], self.object[chosen], self.iou[chosen])


@dataclass(frozen=True)
class Matches:
    """The outcome for A area ranges (``AREA_RANGES``) and T thresholds (``IOU_THRESHOLDS``).

    The D detections that are evaluated are sorted by class, then by descending score, then by
    their order in the input. input_row: int (D,), their indices in the input. image, label: int
    (D,). score: (D,). rank: int (D,), position by score in the group, from 0. in_area_range: bool
    (A, D).

    The N candidates are the detections that overlap an object of their group with the lowest
    threshold or more. candidates: int (N,), their indices among the D, ascending. true_positive,
    ignored: bool (A, T, N), matched to an object that counts, or to one that does not.
    matched_object: int (N,), the index of the object matched at the lowest threshold and in the
    range of all areas, -1 for none.

    object_counts: int (A, K), the objects of each class that count. object_image, object_label:
    int, of the objects that count in the range of all areas.
    """

    input_row: np.ndarray
    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    in_area_range: np.ndarray
    candidates: np.ndarray
    true_positive: np.ndarray
    ignored: np.ndarray
    matched_object: np.ndarray
    object_counts: np.ndarray
    object_image: np.ndarray
    object_label: np.ndarray

    def above(self, score: float) -> Matches:
        """Without the detections of a lower score.

        Nothing is matched again: a detection takes no object from one with a higher score.
        """
        kept = self.score >= score
        kept_candidates = kept[self.candidates]
        of_detections = ("input_row", "image", "label", "score", "rank", "in_area_range")
        of_candidates = ("true_positive", "ignored", "matched_object")
        values = {name: getattr(self, name)[..., kept] for name in of_detections}
        values |= {name: getattr(self, name)[..., kept_candidates] for name in of_candidates}
        candidates = (np.cumsum(kept) - 1)[self.candidates[kept_candidates]]
        return dataclasses.replace(self, candidates=candidates, **values)


def match(
    objects: Boxes,
    ignored: np.ndarray,
    crowd: np.ndarray,
    detections: Boxes,
    scores: np.ndarray,
    num_classes: int,
) -> Matches:
    """Match all detections; images in ascending order, labels beyond the classes left out.

    ignored, crowd: bool, one per object. An ignored object is not counted, and a detection matched
    to it is ignored. A crowd is ignored too, and any number of detections can be matched to it,
    each by the share of its area inside the crowd. scores: one per detection; only the
    ``MAX_DETECTIONS`` highest-scoring ones of each group are evaluated.
    """
    input_row, rank = _ranked(detections, scores, num_classes)
    evaluated = detections.rows(input_row)
    counted = _in_area_range(objects.box) & ~(ignored | crowd) & _known(objects, num_classes)
    pairs = overlapping(evaluated, objects, crowd, IOU_THRESHOLDS[0])
    candidates = np.unique(pairs.detection)
    rounds = _rank_by_score(evaluated.group[candidates], rank[candidates])
    true_positive, ignored_match, matched_object = _assign(pairs, rounds, counted, crowd)
    return Matches(
        input_row=input_row,
        image=evaluated.image,
        label=evaluated.label,
        score=scores[input_row],
        rank=rank,
        in_area_range=_in_area_range(evaluated.box),
        candidates=candidates,
        true_positive=true_positive,
        ignored=ignored_match,
        matched_object=matched_object,
        object_counts=np.array(
            [np.bincount(objects.label[c], minlength=num_classes + 1)[1:] for c in counted]
        ),
        object_image=objects.image[counted[0]],
        object_label=objects.label[counted[0]],
    )


def overlapping(
    detections: Boxes,
    objects: Boxes,
    crowd: np.ndarray,
    least: float,
    at_once: int = PAIRS_AT_ONCE,
) -> Pairs:
    """All pairs with this overlap or more. crowd: bool, one per object; see ``overlap``."""
    by_group = np.argsort(objects.group, kind="stable")
    groups, group = objects.group[by_group], detections.group
    first = np.searchsorted(groups, group)
    count = np.searchsorted(groups, group, side="right") - first
    boxes, others = to_xywh(detections.box), to_xywh(objects.box)
    paired, total = np.flatnonzero(count), int(count.sum())
    limits = np.searchsorted(np.cumsum(count[paired]), range(at_once, total, at_once))
    parts = []
    for detection in np.split(paired, limits):
        detection = np.repeat(detection, count[detection])
        other = by_group[first[detection] + rank_in_group(detection)]
        iou = overlap(boxes[detection], others[other], crowd[other])
        close = iou >= least
        parts.append((detection[close], other[close], iou[close]))
    pairs = Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return pairs.rows(np.lexsort((pairs.object, pairs.iou, pairs.detection)))


def rank_in_group(groups: np.ndarray) -> np.ndarray:
    """Counts from 0 in each run of equal values: 0, 1, 2, 0, 0, 1 for a, a, a, b, c, c."""
    index = np.arange(len(groups))
    begins = np.ones(len(groups), dtype=bool)
    begins[1:] = groups[1:] != groups[:-1]
    return index - np.maximum.accumulate(np.where(begins, index, 0))


def _ranked(
    detections: Boxes, scores: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """``input_row`` and ``rank`` of ``Matches``."""
    known = np.flatnonzero(_known(detections, num_classes))
    row = known[np.lexsort((-scores[known], detections.label[known]))]
    rank = _rank_by_score(detections.group[row], np.arange(len(row)))
    kept = rank < MAX_DETECTIONS
    return row[kept], rank[kept]


def _rank_by_score(groups: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Each one's position in its group, from 0, by ascending ``order``: int (N,)."""
    by_group = np.lexsort((order, groups))
    rank = np.empty_like(by_group)
    rank[by_group] = rank_in_group(groups[by_group])
    return rank


def _known(boxes: Boxes, num_classes: int) -> np.ndarray:
    return (boxes.label >= 1) & (boxes.label <= num_classes)


def _in_area_range(boxes: np.ndarray) -> np.ndarray:
    """bool (A, N): which areas lie in each range."""
    width, height = to_xywh(boxes)[:, 2:].T
    area = width * height
    return np.array([~((area < low) | (area > high)) for low, high in AREA_RANGES.values()])


def _assign(
    pairs: Pairs, rounds: np.ndarray, counted: np.ndarray, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``true_positive``, ``ignored`` and ``matched_object`` of ``Matches``.

    rounds: int (N,), when each candidate takes an object; those of one round are of different
    groups. counted: bool (A, objects), which objects count. crowd: bool (objects,).
    """
    length = np.unique(pairs.detection, return_counts=True)[1]
    by_round = np.argsort(rounds, kind="stable")
    pairs = pairs.rows(np.argsort(np.repeat(rounds, length), kind="stable"))
    length = length[by_round]
    end = np.cumsum(length)
    begin = end - length
    # An object that counts is preferred to all others, then the one with the highest IoU.
    most = int(length.max(initial=1))
    preference = 1 + rank_in_group(pairs.detection)[:, None] + most * counted.T[pairs.object]
    preference = preference.astype(np.int32)[:, :, None]

    free = np.ones((len(crowd), len(AREA_RANGES), len(IOU_THRESHOLDS)), dtype=bool)
    best = np.zeros((len(rounds), *free.shape[1:]), dtype=np.int32)  # 0: no match
    last = np.cumsum(np.bincount(rounds))
    for start, stop in zip(np.append(0, last[:-1]), last, strict=False):
        now = slice(begin[start], end[stop - 1])
        fits = pairs.iou[now, None, None] >= IOU_THRESHOLDS
        offered = preference[now] * (fits & free[pairs.object[now]])
        best[start:stop] = np.maximum.reduceat(offered, begin[start:stop] - begin[start])
        detection, area_range, threshold = np.nonzero(best[start:stop])
        value = best[start:stop][detection, area_range, threshold]
        taken = pairs.object[begin[start + detection] + (value - 1) % most]
        free[taken, area_range, threshold] = crowd[taken]

    lowest = best[:, 0, 0]
    matched = np.append(pairs.object, -1)[np.where(lowest, begin + (lowest - 1) % most, -1)]
    back = np.argsort(by_round)
    best = best[back].transpose(1, 2, 0)
    return best > most, (best > 0) & (best <= most), matched[back]
