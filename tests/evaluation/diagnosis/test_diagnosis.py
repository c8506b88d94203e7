"""The diagnosis names the cause that was planted, in real parts, and accuses nothing else."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torchvision.models.detection import RetinaNet

from data.checking.box_checks import inspect
from data.dataset import Annotation, Dataset, DataSplits, read_image
from data.remarks import Notes
from evaluation.diagnosis import gather as diagnostics
from evaluation.diagnosis.anchor_coverage import AnchorFit
from evaluation.diagnosis.anchor_fit import anchor_fit
from evaluation.diagnosis.class_confusion import look_at_names
from evaluation.diagnosis.facts import Facts
from evaluation.diagnosis.finding import Finding
from evaluation.diagnosis.gather import diagnosis_lines, examine, parameter_facts
from evaluation.diagnosis.rank import diagnose
from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.results import Detections, GroundTruth, ImageResult
from model.efficient_retinanet import get_efficient_retinanet
from model.lightning_trainer import DetectorModule
from model.network.forward import losses_and_detections
from tests.data_sets import draw_image
from tests.image_results import without_detections
from training import low_map
from training.low_map import LowMapDiagnosis

NAMES = ("ace", "king", "queen", "jack")
SIZE = (64, 48)
SMALL = "smaller than every anchor"
SHUFFLED = "shuffled"
FROZEN = "frozen and has no pretrained weights"
NOTHING_PASSES = "No detection passes the score threshold"
EXCHANGED = "are exchanged"
ACCUSATIONS = (SMALL, SHUFFLED, FROZEN, NOTHING_PASSES, EXCHANGED)


def build(**options: Any) -> RetinaNet:
    return get_efficient_retinanet(
        len(NAMES) + 1,
        **{"backbone_weights": "none", "image_size": 64, "anchor_scale": 0.25, **options},
    ).eval()


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    """Untrained but whole: everything in it trains."""
    return build()


@pytest.fixture(scope="module")
def frozen_from_a_file(tmp_path_factory: pytest.TempPathFactory) -> RetinaNet:
    """Weights that claim to have learned something, and have not."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(EfficientNet.from_name("efficientnet-b0", include_top=False).state_dict(), path)
    return build(backbone_weights=str(path), trainable_backbone_layers=0)


@pytest.fixture(scope="module")
def frozen_by_hand() -> RetinaNet:
    model = build().train()
    model.backbone.body.requires_grad_(False)
    # As in a run, where the statistics go on following what the frozen part gives out.
    with torch.no_grad():
        model.backbone(torch.rand(2, 3, 64, 64))
    return model.eval()


@pytest.fixture(scope="module", autouse=True)
def measured_once() -> Iterator[None]:
    """The anchors of a model and some boxes are measured for real, but only once."""
    known: dict[Any, AnchorFit] = {}

    def measure(model: RetinaNet, boxes: Any, sizes: Any) -> AnchorFit:
        key = (id(model), tuple(b.tobytes() for b in boxes), tuple(sizes))
        if key not in known:
            kept.append(model)  # its id is not given to another one
            known[key] = anchor_fit(model, boxes, sizes)
        return known[key]

    kept: list[RetinaNet] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnostics, "anchor_fit", measure)
        yield


def labelled(count: int, side: float = 24, folder: Path | None = None) -> list[Annotation]:
    """Two objects an image, the classes in turn."""
    found = []
    for i in range(count):
        boxes = np.array([[4, 6, 4 + side, 6 + side], [34, 20, 34 + side, 20 + side]], np.float32)
        names = (NAMES[i % len(NAMES)], NAMES[(i + 1) % len(NAMES)])
        path = Path(f"{i}.png")
        if folder:
            things = [(n, *map(float, b)) for n, b in zip(names, boxes, strict=True)]
            path = draw_image(folder / path.name, things)  # type: ignore[arg-type]
        size = None if folder else SIZE
        found.append(Annotation(path, boxes, names, np.zeros(2, bool), size))
    return found


def splits_of(train: list[Annotation], validation: list[Annotation] | None = None) -> DataSplits:
    validation = train if validation is None else validation
    return DataSplits(Dataset(train, NAMES), Dataset(validation, NAMES), "drawn")


def results_of(
    dataset: Dataset, *, score: float = 0.9, says: Any = lambda label, i: label
) -> list[ImageResult]:
    """Detections exactly on the objects; ``says`` gives the label from the true one."""
    counter = iter(range(10**6))
    found = []
    for row, annotation in enumerate(dataset.annotations):
        labels = np.array(dataset.labels(row), dtype=np.int64)
        said = np.array([says(k, next(counter)) for k in labels.tolist()], dtype=np.int64)
        boxes, scores = annotation.boxes, np.full(len(labels), score, np.float32)
        truth = GroundTruth(boxes, labels, annotation.difficult)
        found.append(ImageResult(row, truth, Detections(boxes.copy(), scores, said)))
    return found


def results_of_the_model(model: RetinaNet, dataset: Dataset) -> list[ImageResult]:
    targets = [dataset[i][1] for i in range(len(dataset))]
    images = [dataset[i][0].float() / 255 for i in range(len(dataset))]
    with torch.no_grad():
        _, detections = losses_and_detections(model, images, None)
    return [ImageResult.from_tensors(t, d) for t, d in zip(targets, detections, strict=True)]


def look(
    model: RetinaNet, splits: DataSplits, results: list[ImageResult], threshold: float = 0.5
) -> list[Finding]:
    return diagnose(facts_of(model, splits, results, threshold))


def facts_of(
    model: RetinaNet,
    splits: DataSplits,
    results: list[ImageResult],
    threshold: float = 0.5,
    *,
    pretrained: bool = False,
    training: dict[str, float] | None = None,
) -> Facts:
    return examine(
        model, splits, results, threshold, pretrained=pretrained, training=training or {}
    )


def shuffled(label: int, index: int) -> int:
    return int(np.random.default_rng(index).integers(1, len(NAMES) + 1))


def assert_first(findings: list[Finding], accusation: str) -> None:
    texts = [f.title for f in findings]
    assert accusation in texts[0], texts
    assert not any(other in texts[0] for other in ACCUSATIONS if other != accusation), texts
    assert [f.severity for f in findings] == sorted((f.severity for f in findings), reverse=True)
    assert all(0 <= f.severity <= 1 for f in findings)


# The four causes that must be named, in parts as real as they come.


def test_objects_smaller_than_every_anchor_are_named(model: RetinaNet, tmp_path: Path) -> None:
    splits = splits_of(labelled(8, side=4, folder=tmp_path))
    findings = look(model, splits, results_of_the_model(model, splits.validation))
    assert_first(findings, SMALL)
    assert findings[0].severity == 1
    assert "16 training boxes" in findings[0].evidence
    assert "side of 4 pixels" in findings[0].evidence
    assert "--image-size 128" in findings[0].advice or "--anchor-scale 0." in findings[0].advice


def test_shuffled_labels_are_named(model: RetinaNet) -> None:
    splits = splits_of(labelled(40))
    findings = look(model, splits, results_of(splits.validation, says=shuffled))
    assert_first(findings, SHUFFLED)
    assert "Of 80 objects found" in findings[0].evidence
    assert 0.6 < findings[0].severity < 0.9


@pytest.mark.parametrize("which", ["frozen_from_a_file", "frozen_by_hand"])
def test_a_frozen_backbone_without_weights_is_named(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    frozen = request.getfixturevalue(which)
    splits = splits_of(labelled(8, folder=tmp_path))
    results = results_of_the_model(frozen, splits.validation)
    facts = facts_of(frozen, splits, results, pretrained=which == "frozen_from_a_file")
    findings = diagnose(facts)
    assert_first(findings, FROZEN)
    assert f"0 of its {facts.parameters.backbone} parameters train" in findings[0].evidence
    assert "--backbone-weights" in findings[0].advice


def test_a_threshold_that_nothing_passes_is_named(model: RetinaNet) -> None:
    splits = splits_of(labelled(20))
    findings = look(model, splits, results_of(splits.validation, score=0.3), threshold=0.5)
    assert_first(findings, NOTHING_PASSES)
    assert "is 0.30 and the threshold in use 0.50" in findings[0].evidence
    recommended = float(findings[0].advice.removesuffix(".").split()[-1])
    assert recommended <= 0.3


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_a_healthy_detector_is_not_accused(model: RetinaNet, classes: int) -> None:
    splits = splits_of(
        [
            dataclasses.replace(a, names=tuple(NAMES[NAMES.index(n) % classes] for n in a.names))
            for a in labelled(30)
        ]
    )
    (only,) = look(model, splits, results_of(splits.validation))
    assert only.title == "Nothing stands out."
    assert only.severity == 0
    assert "100 % of 60 objects" in only.evidence


def test_every_cause_alone_is_the_only_accusation(
    model: RetinaNet, frozen_by_hand: RetinaNet
) -> None:
    splits, small = splits_of(labelled(40)), splits_of(labelled(40, side=4))
    nothing = without_detections(results_of(splits.validation))
    none_small = without_detections(results_of(small.validation))
    cases = {
        SMALL: look(model, small, none_small),
        SHUFFLED: look(model, splits, results_of(splits.validation, says=shuffled)),
        FROZEN: look(frozen_by_hand, splits, nothing),
        NOTHING_PASSES: look(model, splits, results_of(splits.validation, score=0.2)),
        EXCHANGED: look(
            model, splits, results_of(splits.validation, says=lambda k, i: {1: 2, 2: 1}.get(k, k))
        ),
    }
    for planted, findings in cases.items():
        named = {a for a in ACCUSATIONS for f in findings if a in f.title}
        assert named == {planted}


def test_a_backbone_that_knows_nothing_names_at_random_without_shuffled_labels(
    frozen_by_hand: RetinaNet,
) -> None:
    splits = splits_of(labelled(40))
    findings = look(frozen_by_hand, splits, results_of(splits.validation, says=shuffled))
    assert_first(findings, FROZEN)
    assert len(findings) == 1


# What must not be mistaken for them.


def test_a_frozen_backbone_that_has_learned_is_not_accused(frozen_from_a_file: RetinaNet) -> None:
    state = {k: v.clone() for k, v in frozen_from_a_file.state_dict().items()}
    learned = {k: v for k, v in state.items() if "running" in k or "_bn" in k}
    try:
        with torch.no_grad():
            for name, value in frozen_from_a_file.state_dict().items():
                if name in learned and value.is_floating_point():
                    value.add_(0.1)
        splits = splits_of(labelled(20))
        nothing = without_detections(results_of(splits.validation))
        facts = facts_of(frozen_from_a_file, splits, nothing, pretrained=True)
        assert not facts.parameters.untrained and facts.parameters.backbone_trainable == 0
        assert "nothing at all" in diagnose(facts)[0].title
    finally:
        frozen_from_a_file.load_state_dict(state)


def test_averaged_weights_of_a_fresh_run_accuse_nobody_and_after_steps_they_do(
    model: RetinaNet,
) -> None:
    """All of an average is without gradients; only untouched norms after steps prove something."""
    average = DetectorModule(model, NAMES).detector
    splits = splits_of(labelled(20))
    nothing = without_detections(results_of(splits.validation))
    assert FROZEN not in look(average, splits, nothing)[0].title
    later = diagnose(facts_of(average, splits, nothing, training={"steps": 900}))
    assert FROZEN in later[0].title


def test_every_anchor_larger_or_smaller_is_told_apart() -> None:
    splits = splits_of(labelled(20, side=28))
    nothing = without_detections(results_of(splits.validation))
    (first, *_) = look(build(anchor_scale=0.01), splits, nothing)
    assert first.title == "Objects are larger than every anchor."
    assert "--anchor-scale 1 --image-size 128: then 0 % of the boxes" in first.advice


def test_anchors_that_do_not_fit_are_no_cause_where_the_objects_are_found(
    model: RetinaNet,
) -> None:
    splits = splits_of(labelled(20, side=4))
    assert "Nothing stands out" in look(model, splits, results_of(splits.validation))[0].title


# Names: at random, exchanged, one called another.


def test_two_names_exchanged_are_told_from_names_at_random(model: RetinaNet) -> None:
    splits = splits_of(labelled(40))
    swap = {1: 2, 2: 1, 3: 3, 4: 4}
    findings = look(model, splits, results_of(splits.validation, says=lambda k, i: swap[k]))
    assert findings[0].title == "The names 'ace', 'king' are exchanged."
    assert findings[0].severity == pytest.approx(0.5)
    assert len(findings) == 1


def test_two_of_three_names_exchanged_are_not_called_chance() -> None:
    """A third is right, as many as by chance: but the names do go with the objects."""
    naming = look_at_names([[0, 50, 0], [50, 0, 0], [0, 0, 50]])
    assert naming.right / naming.named == pytest.approx(naming.chance)
    assert naming.exchanged == ((0, 1),) and not naming.at_chance


def test_names_moved_on_by_one_are_a_circle(model: RetinaNet) -> None:
    splits = splits_of(labelled(40))
    findings = look(model, splits, results_of(splits.validation, says=lambda k, i: k % 4 + 1))
    assert findings[0].title == "The names 'ace', 'king', 'queen', 'jack' are exchanged."
    assert len(findings) == 1


def test_one_class_called_another_is_named(model: RetinaNet) -> None:
    splits = splits_of(labelled(40))
    findings = look(model, splits, results_of(splits.validation, says=lambda k, i: min(k, 3)))
    assert [f.title for f in findings] == ["'jack' is called 'queen'."]


def test_confusions_without_a_pattern_are_described(model: RetinaNet) -> None:
    splits = splits_of(labelled(60))
    some = results_of(splits.validation, says=lambda k, i: shuffled(k, i) if i % 2 else k)
    titles = [f.title for f in look(model, splits, some)]
    assert titles == ["It finds objects but gives them wrong names."]


def test_of_a_single_true_class_nothing_is_said_about_chance(model: RetinaNet) -> None:
    """Six names are given, but only kings are there: chance is as right as the detector."""
    names = look_at_names(((0, 0, 0), (20, 60, 20), (0, 0, 0)))
    assert not names.at_chance
    assert look_at_names(((20, 60, 20), (20, 60, 20), (0, 0, 0))).at_chance


def test_one_name_for_everything_is_not_called_shuffled_first(model: RetinaNet) -> None:
    splits = splits_of(labelled(40))
    first = look(model, splits, results_of(splits.validation, says=lambda k, i: 2))[0]
    assert first.title == "Nearly everything is called 'king': no better than chance."


@pytest.mark.parametrize("classes", [2, 3, 6, 20])
def test_chance_follows_the_frequencies_of_the_labels(classes: int) -> None:
    random = np.random.default_rng(classes)
    weights = np.arange(1, classes + 1) / (classes * (classes + 1) / 2)
    chances = 0
    for _ in range(50):
        true, said = random.choice(classes, 200, p=weights), random.choice(classes, 200, p=weights)
        matrix = np.zeros((classes, classes), int)
        np.add.at(matrix, (true, said), 1)
        naming = look_at_names(matrix.tolist())
        assert naming.chance == pytest.approx(float((weights**2).sum()), abs=0.1)
        assert not naming.exchanged
        chances += naming.at_chance
    assert chances >= 45


@pytest.mark.parametrize("right", [0.7, 0.85, 1.0])
@pytest.mark.parametrize("named", [8, 20, 60, 400])
def test_names_that_are_mostly_right_are_never_called_chance(right: float, named: int) -> None:
    random = np.random.default_rng(named)
    for _ in range(100):
        true = random.integers(0, 3, named)
        said = np.where(random.random(named) < right, true, random.integers(0, 3, named))
        matrix = np.zeros((3, 3), int)
        np.add.at(matrix, (true, said), 1)
        naming = look_at_names(matrix.tolist())
        assert not naming.at_chance and not naming.exchanged


# Data, training and threshold.


def test_classes_missing_from_training_are_named(model: RetinaNet) -> None:
    both = labelled(40)
    train = [a for a in both if "jack" not in a.names]
    splits = splits_of(train, both)
    says_ace = results_of(splits.validation, says=lambda k, i: shuffled(k, i) if k == 4 else k)
    titles = [f.title for f in look(model, splits, says_ace)]
    assert titles[0] == "Classes are missing from the training images."


def test_a_rare_class_is_named(model: RetinaNet) -> None:
    both = labelled(40)
    without = [a for a in both if "jack" not in a.names]
    one = next(a for a in both if "jack" in a.names)
    splits = splits_of(without * 3 + [one], both)
    lost = [
        r.with_detections(r.detections.keep(r.detections.labels != 4))
        for r in results_of(splits.validation)
    ]
    first = look(model, splits, lost)[0]
    assert first.title == "Some classes are rare in training." and "'jack' 1" in first.evidence


@pytest.mark.parametrize(
    ("training", "title"),
    [
        ({"steps": 40}, "It has hardly been trained yet."),
        ({"steps": 40, "planned_steps": 4000}, "It has hardly been trained yet."),
        ({"steps": 4000, "learning_rate": 0.5}, "The learning rate is very high."),
        ({"steps": 4000, "learning_rate": 1e-7}, "The learning rate is very low."),
        ({"steps": 4000, "loss": 40.0}, "The loss is very high: training goes astray."),
        ({"steps": 4000, "loss": 0.0}, "The loss is zero: there is nothing to learn from."),
        ({"learning_rate": 1e-3, "loss": 0.4}, "It detects nothing at all."),
        ({}, "It detects nothing at all."),
    ],
)
def test_circumstances_of_the_training_are_named(
    model: RetinaNet, training: dict[str, float], title: str
) -> None:
    splits = splits_of(labelled(20))
    nothing = without_detections(results_of(splits.validation))
    touched = dataclasses.replace(parameter_facts(model, False), untrained=False)
    facts = facts_of(model, splits, nothing, training=training)
    assert [f.title for f in diagnose(dataclasses.replace(facts, parameters=touched))] == [title]
    healthy = facts_of(model, splits, results_of(splits.validation), training=training)
    assert "Nothing stands out" in diagnose(healthy)[0].title


@pytest.mark.parametrize(
    ("threshold", "title"), [(0.95, "The score threshold is too high."), (0.5, "Nothing")]
)
def test_a_threshold_too_high_is_named(model: RetinaNet, threshold: float, title: str) -> None:
    splits = splits_of(labelled(20))
    results = results_of(splits.validation, score=0.9)
    sure = dataclasses.replace(results[0].detections, scores=np.array([0.97, 0.97], np.float32))
    results[0] = results[0].with_detections(sure)
    assert look(model, splits, results, threshold)[0].title.startswith(title)


def with_false_detections(results: list[ImageResult], score: float) -> list[ImageResult]:
    corner = np.tile(np.array([[0, 40, 7, 47]], np.float32), (4, 1))
    false = Detections(corner, np.full(4, score, np.float32), np.ones(4, np.int64))
    return [
        r.with_detections(
            Detections(
                *(
                    np.concatenate(pair)
                    for pair in zip(vars(r.detections).values(), vars(false).values(), strict=True)
                )
            )
        )
        for r in results
    ]


def test_a_threshold_too_low_is_named(model: RetinaNet) -> None:
    splits = splits_of(labelled(20))
    results = with_false_detections(results_of(splits.validation, score=0.9), 0.3)
    first = look(model, splits, results, threshold=0.1)[0]
    assert first.title == "The score threshold is too low."


def test_false_detections_surer_than_the_right_ones_are_named(model: RetinaNet) -> None:
    splits = splits_of(labelled(20))
    results = with_false_detections(results_of(splits.validation, score=0.6), 0.9)
    assert look(model, splits, results)[0].title == "It finds the objects, and much else."


# Nothing, and little.


@pytest.mark.parametrize("images", [0, 3])
def test_without_objects_or_images_the_diagnosis_says_so_and_nothing_warns(
    model: RetinaNet, images: int
) -> None:
    nothing = np.zeros((0, 4), np.float32)
    empty = [Annotation(Path(f"{i}"), nothing, (), np.zeros(0, bool)) for i in range(images)]
    splits = splits_of(empty)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facts = facts_of(model, splits, results_of(splits.validation))
        findings = diagnose(facts)
    assert findings[0].title == "There are no objects in the validation images."
    assert facts.anchors is None and math.isnan(facts.recall_any)
    assert diagnosis_lines(findings)[0].startswith("1. There are no objects")


def test_without_detections_nothing_warns(model: RetinaNet) -> None:
    splits = splits_of(labelled(20))
    nothing = without_detections(results_of(splits.validation))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        findings = look(model, splits, nothing)
    assert [f.title for f in findings] == ["It detects nothing at all."]


def test_few_objects_make_no_bold_claims(model: RetinaNet) -> None:
    splits = splits_of(labelled(2))
    for results in (
        results_of(splits.validation, says=lambda k, i: k % 4 + 1),
        without_detections(results_of(splits.validation)),
    ):
        findings = look(model, splits, results)
        assert [f.title for f in findings] == ["Only 4 objects in validation: too few to tell."]
    assert "too few to tell" in look(model, splits, results_of(splits.validation))[0].title


def test_difficult_objects_are_not_counted(model: RetinaNet) -> None:
    rows = [dataclasses.replace(a, difficult=np.array([True, False])) for a in labelled(20)]
    splits = splits_of(rows)
    missed = [
        r.with_detections(r.detections.keep(np.array([1]))) for r in results_of(splits.validation)
    ]
    facts = facts_of(model, splits, missed)
    assert (facts.total_objects, facts.recall_any) == (20, 1.0)


def test_recalls_and_names_are_those_counted_by_hand(model: RetinaNet) -> None:
    """Found rightly; found under two names, the wrong one surer; missed; too unsure."""
    a, b, c, d = [0, 0, 20, 20], [30, 0, 50, 20], [0, 25, 20, 45], [30, 25, 50, 45]
    image = ImageResult(
        0,
        GroundTruth(np.array([a, b, c, d], np.float32), np.array([1, 1, 2, 2]), np.zeros(4, bool)),
        Detections(
            np.array([a, b, b, d], np.float32),
            np.array([0.9, 0.4, 0.6, 0.04], np.float32),
            np.array([1, 1, 3, 2]),
        ),
    )
    facts = facts_of(model, splits_of(labelled(4)), [image])
    assert (facts.recall_any, facts.recall_named) == (0.5, 0.5)
    assert facts.names == ((1, 0, 1, 0), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0))
    assert (facts.detections, facts.threshold.passing) == (3, 2)
    assert facts.highest_score == pytest.approx(0.9)


def test_a_neighbour_does_not_lend_its_name(model: RetinaNet) -> None:
    """Two objects that overlap by half: each is named by the detection that lies on it."""
    first, second = [0, 0, 30, 20], [8, 0, 38, 20]
    image = ImageResult(
        0,
        GroundTruth(np.array([first, second], np.float32), np.array([1, 2]), np.zeros(2, bool)),
        Detections(
            np.array([first, second], np.float32),
            np.array([0.9, 0.4], np.float32),
            np.array([1, 2]),
        ),
    )
    names = facts_of(model, splits_of(labelled(4)), [image]).names
    assert names[0] == (1, 0, 0, 0) and names[1] == (0, 1, 0, 0)


# Gathering.


def test_sizes_come_from_the_files_where_the_annotation_has_none(
    model: RetinaNet, tmp_path: Path
) -> None:
    stated = facts_of(model, splits_of(labelled(6)), [])
    read = facts_of(model, splits_of(labelled(6, folder=tmp_path)), [])
    assert stated.anchors is not None and stated.anchors == read.anchors
    gone = splits_of([dataclasses.replace(a, size=None) for a in labelled(6)])
    assert facts_of(model, gone, []).anchors is None


def test_a_picture_on_its_side_is_measured_upright(tmp_path: Path) -> None:
    from PIL import ExifTags, Image

    picture = Image.new("RGB", (60, 20))
    exif = picture.getexif()
    exif[ExifTags.Base.Orientation] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    for stated, seen in (((60, 20), (60, 20)), ((20, 60), (20, 60)), (None, (20, 60))):
        boxes = np.zeros((0, 4), np.float32)
        turned = Annotation(tmp_path / "a.jpg", boxes, (), np.zeros(0, bool), stated)
        assert diagnostics._image_size(turned) == seen == read_image(turned.image_path, stated).size


def test_a_size_that_the_annotation_states_wrongly_is_not_believed(
    model: RetinaNet, tmp_path: Path
) -> None:
    right = labelled(6, folder=tmp_path)
    wrong, _ = inspect([dataclasses.replace(a, size=(1000, 1000)) for a in right], Notes())
    measured = [facts_of(model, splits_of(rows), []).anchors for rows in (right, wrong)]
    assert measured[0] is not None and measured[0] == measured[1]


def test_no_picture_is_opened_for_a_size_that_reading_the_data_set_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, _ = inspect(labelled(6, folder=tmp_path), Notes())
    monkeypatch.setattr(diagnostics, "look_at", None)
    assert [diagnostics._image_size(a) for a in read] == [a.size for a in read]


def test_at_most_five_hundred_images_are_measured_from_all_over_the_split(
    model: RetinaNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        diagnostics, "anchor_fit", lambda model, boxes, sizes: seen.extend(b[0][0] for b in boxes)
    )
    rows = [
        Annotation(Path("a"), np.array([[i, 0, i + 9, 9]]), ("ace",), np.zeros(1, bool), (9999, 99))
        for i in range(1300)
    ]
    diagnostics._anchor_facts(model, Dataset(rows, NAMES))
    assert len(seen) == len(set(seen)) == 500
    assert min(seen) < 10 and max(seen) > 1290


def test_parameters_are_counted(model: RetinaNet, frozen_from_a_file: RetinaNet) -> None:
    whole, frozen = parameter_facts(model, False), parameter_facts(frozen_from_a_file, True)
    assert whole.total == whole.trainable == sum(p.numel() for p in model.parameters())
    assert whole.backbone == whole.backbone_trainable > 0
    assert frozen.backbone_trainable == 0 < frozen.trainable
    assert frozen.norms_frozen and not whole.norms_frozen
    assert frozen.norms == whole.norms > 40


def test_long_names_are_shortened_and_lines_are_single(model: RetinaNet) -> None:
    long = "x" * 300
    facts = facts_of(model, splits_of(labelled(40)), [])
    facts = dataclasses.replace(
        facts,
        objects={long: 30, "king": 30},
        training_objects={"king": 30},
        recall_any=1.0,
        names=((0, 30), (0, 30)),
    )
    lines = diagnosis_lines(diagnose(facts))
    assert all(long not in line and "\n" not in line for line in lines)
    assert [line.split(".")[0] for line in lines] == [str(i + 1) for i in range(len(lines))]


# The callback.


class Run:
    """A trainer and a module with the results of a validation, moved through epochs by hand."""

    def __init__(self, model: RetinaNet, results: list[ImageResult], splits: DataSplits) -> None:
        self.said: list[str] = []
        self.module = DetectorModule(model, NAMES)
        self.module.evaluation = CocoEvaluation(results, NAMES)
        self.module.metrics = self.module.evaluation.metrics
        self.trainer: Any = SimpleNamespace(
            sanity_checking=False,
            current_epoch=1,
            is_global_zero=True,
            global_step=20,
            callbacks=[],
            callback_metrics={"loss": torch.tensor(0.7)},
        )
        self.module.trainer, self.module.planned_steps = self.trainer, 400
        self.callback = LowMapDiagnosis(splits, lambda label, text: self.said.append(text))

    def validate(self, epoch: int = 2) -> list[str]:
        self.said.clear()
        self.trainer.current_epoch = epoch - 1
        self.callback.on_validation_end(self.trainer, self.module)
        return list(self.said)


@pytest.fixture
def bad_run(model: RetinaNet) -> Run:
    splits = splits_of(labelled(20))
    nothing = without_detections(results_of(splits.validation))
    return Run(model, nothing, splits)


def test_a_low_map_is_explained_once_in_a_run_from_the_second_epoch_on(bad_run: Run) -> None:
    assert bad_run.validate(epoch=1) == []
    said = bad_run.validate(epoch=2)
    assert said[0].startswith("why mAP is low") and said[1].startswith("1. ")
    assert bad_run.validate(epoch=3) == []


def test_the_threshold_is_the_asked_one_else_that_of_the_validation(bad_run: Run) -> None:
    def threshold() -> float:
        return bad_run.callback._facts(bad_run.trainer, bad_run.module).threshold.value

    assert threshold() == 0.5
    bad_run.module.score_threshold = 0.07
    assert threshold() == 0.07
    bad_run.callback.asked_threshold = 0.3
    assert threshold() == 0.3


def test_a_resumed_run_does_not_explain_again(bad_run: Run) -> None:
    bad_run.validate()
    state = bad_run.callback.state_dict()
    bad_run.callback.said = False
    bad_run.callback.load_state_dict(state)
    assert bad_run.validate(epoch=3) == []


def test_a_good_map_a_sanity_check_and_other_processes_say_nothing(
    bad_run: Run, model: RetinaNet
) -> None:
    bad_run.trainer.sanity_checking = True
    assert bad_run.validate() == []
    bad_run.trainer.sanity_checking, bad_run.trainer.is_global_zero = False, False
    assert bad_run.validate() == []
    splits = bad_run.callback.splits
    assert Run(model, results_of(splits.validation), splits).validate() == []


def test_a_map_that_cannot_be_measured_is_explained(model: RetinaNet) -> None:
    splits = splits_of(labelled(4), [])
    assert "no objects in the validation images" in Run(model, [], splits).validate()[1]


def test_a_failing_diagnosis_is_one_line_and_training_goes_on(
    bad_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory\nwith details")

    monkeypatch.setattr(low_map, "examine", fail)
    (line,) = bad_run.validate()
    assert "failed: RuntimeError, out of memory" in line and "\n" not in line


def test_the_diagnosis_leaves_the_training_as_it_was(bad_run: Run) -> None:
    module = bad_run.module.train()
    random = torch.get_rng_state()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    try:
        assert bad_run.validate()
        assert torch.equal(torch.get_rng_state(), random)
        assert all(m.training for m in module.model.modules())
        assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    finally:
        module.eval()
