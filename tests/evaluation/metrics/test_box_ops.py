"""Boxes as plain arrays: their overlap, held against pycocotools'."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from evaluation.metrics.box_ops import iou, share_inside, to_xywh

boxes = st.lists(st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2), max_size=5).map(
    lambda rows: np.array([[x, y, x + w, y + h] for x, y, w, h in rows], float).reshape(-1, 4)
)


@settings(max_examples=100, deadline=None)
@given(boxes, boxes)
def test_overlaps_are_those_of_pycocotools(found: np.ndarray, true: np.ndarray) -> None:
    """Of a crowd it takes the share of the detection that lies inside."""
    for crowd, ours in ((0, iou(found, true)), (1, share_inside(found, true))):
        assert ours.shape == (len(found), len(true))
        if ours.size:
            theirs = mask.iou(to_xywh(found), to_xywh(true), [crowd] * len(true))
            np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_no_share_of_a_box_without_area_is_inside() -> None:
    assert share_inside(np.array([[5, 5, 5, 5]]), np.array([[0, 0, 9, 9]])).tolist() == [[0]]
