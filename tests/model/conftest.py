"""Fixtures for the tests of the model."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection import RetinaNet

from tests.small_models import build, with_varied_outputs


@pytest.fixture(scope="session")
def b0() -> RetinaNet:
    """In evaluation mode, every score above the threshold; a test that changes it copies it.

    Of these random weights rounding is amplified the least: it is 10 times below what is allowed.
    """
    torch.manual_seed(5)
    return with_varied_outputs(build(score_thresh=0.01))
