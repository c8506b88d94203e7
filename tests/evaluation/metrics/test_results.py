"""Detections and ground truth, made of what models and data sets give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from evaluation.metrics.results import Detections
from tests.image_results import result_from_tensors


def test_targets_and_detections_as_the_model_gives_them_make_a_result() -> None:
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0]])
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(50, 60)),
        "labels": torch.tensor([2]),
        "difficult": torch.tensor([True]),
        "image_id": 5,
    }
    found = {
        "boxes": boxes.clone().requires_grad_(),
        "scores": torch.tensor([0.5]),
        "labels": torch.tensor([2]),
    }
    made = result_from_tensors(target, found)
    truth, detections = made.ground_truth, made.detections
    assert made.image_id == 5 and truth.difficult.tolist() == [True] and truth.crowd is None
    assert truth.boxes.tolist() == detections.boxes.tolist() == boxes.tolist()
    arrays = (*vars(detections).values(), truth.boxes, truth.labels, truth.difficult)
    assert all(type(values) is np.ndarray for values in arrays)


def test_a_detection_of_background_is_left_out() -> None:
    found = {
        "boxes": torch.tensor([[0.0, 0, 9, 9], [1, 1, 5, 5]]),
        "scores": torch.tensor([0.9, 0.8]),
        "labels": torch.tensor([0, 2]),
    }
    kept = Detections.from_tensors(found)
    assert kept.labels.tolist() == [2] and kept.boxes.tolist() == [[1, 1, 5, 5]]
    assert kept.scores.tolist() == pytest.approx([0.8])
