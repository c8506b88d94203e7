"""Validation: the averaged weights, and a mAP that does not depend on the batches."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from data.loader import make_loader
from evaluation.metrics.coco import CocoEvaluation
from model.lightning_trainer import DetectorModule, Timer
from tests.image_results import result_from_tensors
from tests.memory_data import NAMES, PicturesInMemory, quiet_trainer
from tests.small_models import build, with_varied_outputs


def test_the_first_batch_counts_for_the_speed_only_if_it_is_alone() -> None:
    timer = Timer()
    assert math.isnan(timer.rate)
    timer.batches.append((4, 8.0))
    assert timer.rate == 0.5
    timer.batches += [(4, 1.0), (2, 0.5)]
    assert timer.rate == 4


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(1)
    return with_varied_outputs(build(score_thresh=0.01), spread=0.3)


@pytest.fixture(scope="module")
def planted(model: nn.Module) -> tuple[PicturesInMemory, float]:
    """Pictures with some of the model's own detections as their objects, and the mAP of that.

    The mAP comes from the model's own forward, one picture at a time.
    """
    sizes = [(48, 64), (64, 64), (64, 30), (90, 128), (40, 40), (48, 64), (64, 64), (64, 30)]
    data = PicturesInMemory(sizes)
    with torch.no_grad():
        detections = [model([data[row][0].float() / 255])[0] for row in range(len(sizes))]
    objects = []
    for boxes, labels in ((d["boxes"], d["labels"]) for d in detections):
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        rows = (has_area & (labels > 0)).nonzero().flatten()[1:12:4]
        detected = zip(boxes[rows].tolist(), labels[rows].tolist(), strict=True)
        objects.append([*detected, ((1, 1, 9, 30), 1)])
    objects[4] = []
    data.plant(objects)
    results = [result_from_tensors(data[i][1], d) for i, d in enumerate(detections)]
    return data, CocoEvaluation(results, NAMES).metrics.map


@pytest.mark.slow
def test_map_and_loss_of_a_validation_are_the_same_for_every_batch_size_and_number_of_workers(
    model: nn.Module, planted: tuple[PicturesInMemory, float]
) -> None:
    data, expected = planted
    assert 0.02 < expected < 0.98
    losses = []
    for batch_size, workers in ((1, 0), (3, 0), (8, 0), (3, 2)):
        for with_loss in (True, False):
            module = DetectorModule(copy.deepcopy(model), NAMES, validation_loss=with_loss)
            loader = make_loader(data, batch_size, workers=workers)
            (values,) = quiet_trainer().validate(module, loader, verbose=False)
            assert values["mAP"] == pytest.approx(expected, abs=1e-6)
            assert ("val_loss" in values) == with_loss
            losses += [values["val_loss"]] if with_loss else []
            assert module.metrics is not None
            assert sum(module.metrics.objects.values()) == 4 * 7
            assert module.images_per_second > 0
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-4)


def test_validation_sees_the_average_alone_and_two_do_not_add_up(
    model: nn.Module, planted: tuple[PicturesInMemory, float]
) -> None:
    module = DetectorModule(copy.deepcopy(model), NAMES)
    with torch.no_grad():
        for parameter in module.model.parameters():
            parameter.fill_(math.nan)
    for rows, objects in (([0, 1], 8), ([2], 4)):
        loader = make_loader(planted[0].subset(rows), 2)
        (values,) = quiet_trainer().validate(module, loader, verbose=False)
        assert math.isfinite(values["val_loss"])
        assert module.metrics is not None
        assert sum(module.metrics.objects.values()) == objects
