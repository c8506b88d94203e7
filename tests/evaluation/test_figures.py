"""The figures of the report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from evaluation.figures import draw_figures, recall_by_size
from tests.evaluation.pages import metrics_of, perfect
from tests.image_results import random_results, with_truth


def test_every_figure_shows_what_it_is_about() -> None:
    """Another detector, another figure."""
    one, other = draw_figures(metrics_of(random_results(1))), draw_figures(metrics_of(perfect()))
    again = draw_figures(metrics_of(random_results(1)))
    for name, png in one.items():
        assert Image.open(io.BytesIO(png)).format == "PNG"
        assert png != other[name] and png == again[name]


def test_the_size_histogram_counts_every_object_and_every_detected_one_once() -> None:
    results = random_results(1)
    results[0] = with_truth(results[0], difficult=results[0].ground_truth.labels > 0)
    metrics = metrics_of(results)
    edges, objects, detected = recall_by_size(metrics)
    assert objects.sum() == metrics.objects
    assert detected.sum() == metrics.overall.true_positives and (detected <= objects).all()
    boxes = np.concatenate([r.ground_truth.boxes for r in results[1:]])
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    np.testing.assert_array_equal(objects, np.histogram(sides.astype(np.float64), edges)[0])


@pytest.mark.parametrize(
    "names",
    [("\u9ed1\u6843", "\u0e44\u0e1e\u0e48", "ace"), [f"a long name {k}" for k in range(80)]],
    ids=["any script", "eighty classes"],
)
@pytest.mark.filterwarnings("error")
def test_any_names_are_drawn_without_a_warning(names: Sequence[str]) -> None:
    pngs = draw_figures(metrics_of(perfect(len(names)), names))
    assert all(0 < len(png) < 500_000 for png in pngs.values())
