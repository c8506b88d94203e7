"""Detections and ground truth, made of what models and data sets give."""

from __future__ import annotations

import numpy as np
import torch
from torchvision import tv_tensors

from tests.image_results import result_from_tensors


def test_targets_and_detections_of_a_model_make_a_result_without_background() -> None:
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0]])
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(50, 60)),
        "labels": torch.tensor([2]),
        "difficult": torch.tensor([True]),
        "image_id": 5,
    }
    found = {
        "boxes": boxes.repeat(2, 1).requires_grad_(),
        "scores": torch.tensor([0.9, 0.5]),
        "labels": torch.tensor([0, 2]),
    }
    made = result_from_tensors(target, found)
    truth, detections = made.ground_truth, made.detections
    assert made.image_id == 5 and truth.difficult.tolist() == [True] and truth.crowd is None
    assert truth.boxes.tolist() == detections.boxes.tolist() == boxes.tolist()
    assert (detections.labels.tolist(), detections.scores.tolist()) == ([2], [0.5])
    arrays = (*vars(detections).values(), truth.boxes, truth.labels, truth.difficult)
    assert all(type(values) is np.ndarray for values in arrays)
