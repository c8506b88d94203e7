"""The facts of a diagnosis are those counted by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.models.detection import RetinaNet

from data.checking.box_checks import check_boxes
from data.dataset import Annotation, Dataset
from data.image_files.read import read_image
from data.remarks import Remarks
from evaluation.diagnosis import gather
from evaluation.diagnosis.gather import anchor_facts, parameter_facts
from tests.data_sets import save_oriented
from tests.evaluation.diagnosis.planted import NAMES, facts_of, labelled, results_of, splits_of
from tests.image_results import result


@pytest.fixture
def sizes_measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The sizes of the images whose boxes were compared with anchors."""
    sizes: list[tuple[int, int]] = []
    monkeypatch.setattr(gather, "anchor_fit", lambda model, boxes, of: sizes.extend(of))
    return sizes


def test_difficult_objects_are_not_counted(model: RetinaNet) -> None:
    rows = [dataclasses.replace(a, difficult=np.array([True, False])) for a in labelled(20)]
    splits = splits_of(rows)
    second = np.array([False, True])
    missed = [r.with_detections(r.detections.keep(second)) for r in results_of(splits)]
    facts = facts_of(model, splits, missed)
    assert (facts.total_objects, facts.recall_any) == (20, 1.0)


def test_recalls_and_names_are_those_counted_by_hand(model: RetinaNet) -> None:
    """Detected correctly; with two names, the wrong one scoring higher; missed; scored too low."""
    a, b, c, d = [0, 0, 20, 20], [30, 0, 50, 20], [0, 25, 20, 45], [30, 25, 50, 45]
    labels = {"true_labels": [1, 1, 2, 2], "labels": [1, 1, 3, 2]}
    image = result(0, [a, b, c, d], [a, b, b, d], [0.9, 0.4, 0.6, 0.04], **labels)
    facts = facts_of(model, splits_of(labelled(4)), [image])
    assert (facts.recall_any, facts.recall_named) == (0.5, 0.5)
    assert facts.names == ((1, 0, 1, 0), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0))
    assert (facts.detections, facts.threshold.passing) == (3, 2)
    assert facts.highest_score == pytest.approx(0.9)


def test_a_detection_names_only_the_object_that_it_overlaps_most(model: RetinaNet) -> None:
    """Two objects that overlap by half: each is named by the detection that lies on it."""
    boxes = [[0, 0, 30, 20], [8, 0, 38, 20]]
    image = result(0, boxes, boxes, [0.9, 0.4], true_labels=[1, 2], labels=[1, 2])
    names = facts_of(model, splits_of(labelled(4)), [image]).names
    assert names[0] == (1, 0, 0, 0) and names[1] == (0, 1, 0, 0)


def test_sizes_are_those_of_the_files_whatever_the_annotations_state(
    model: RetinaNet, tmp_path: Path
) -> None:
    files = labelled(6, folder=tmp_path)
    sizes = ((1000, 1000), None)
    stated, *others = (
        anchor_facts(model, Dataset(rows, NAMES))
        for rows in (files, *(checked_with(files, size) for size in sizes))
    )
    assert stated is not None and others == [stated, stated]
    gone = [dataclasses.replace(a, size=None) for a in files]
    assert anchor_facts(model, Dataset(gone, NAMES)) is None


def checked_with(rows: list[Annotation], size: tuple[int, int] | None) -> list[Annotation]:
    """The annotations as a reader leaves them where the files state this size."""
    return check_boxes([dataclasses.replace(a, size=size) for a in rows], Remarks())[0]


@pytest.mark.parametrize(
    ("stated", "upright"), [((60, 20), (60, 20)), ((20, 60), (20, 60)), (None, (20, 60))]
)
def test_an_image_on_its_side_is_measured_upright(
    model: RetinaNet,
    tmp_path: Path,
    sizes_measured: list[tuple[int, int]],
    stated: tuple[int, int] | None,
    upright: tuple[int, int],
) -> None:
    path = save_oriented(tmp_path / "a.jpg", Image.new("RGB", (60, 20)), 6)
    box = np.array([[0, 0, 9, 9]], np.float32)
    rows = checked_with([Annotation(path, box, ("ace",), np.zeros(1, bool))], stated)
    anchor_facts(model, Dataset(rows, NAMES))
    assert sizes_measured == [upright] and read_image(path, stated).size == upright


def test_at_most_five_hundred_images_are_measured_from_all_over_the_split(
    model: RetinaNet, sizes_measured: list[tuple[int, int]]
) -> None:
    box = np.array([[0, 0, 9, 9]])
    rows = [
        Annotation(Path("a"), box, ("ace",), np.zeros(1, bool), (99 + i, 99)) for i in range(1300)
    ]
    anchor_facts(model, Dataset(rows, NAMES))
    assert len(sizes_measured) == len(set(sizes_measured)) == 500
    assert min(sizes_measured)[0] < 110 and max(sizes_measured)[0] > 1390


def test_parameters_are_counted(model: RetinaNet, frozen_from_a_file: RetinaNet) -> None:
    whole, frozen = parameter_facts(model, False), parameter_facts(frozen_from_a_file, True)
    assert whole.total == whole.trainable == sum(p.numel() for p in model.parameters())
    assert whole.backbone == whole.backbone_trainable > 0
    assert frozen.backbone_trainable == 0 < frozen.trainable
    assert frozen.norms_frozen and not whole.norms_frozen
    assert frozen.norms == whole.norms > 40
