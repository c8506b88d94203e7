"""What the heads start from."""

from __future__ import annotations

import torch

from model.network.heads import Float32Head


def test_a_signal_reaches_the_last_layer_of_a_new_head_as_strong_as_it_was() -> None:
    torch.manual_seed(0)
    head = Float32Head(256, 9, 6)
    signal = torch.randn(2, 256, 20, 20)
    with torch.inference_mode():
        for tower in (head.classification_head.conv, head.regression_head.conv):
            strength = tower(signal).square().mean().sqrt()
            assert 0.5 < strength < 2


def test_a_new_head_takes_nearly_everything_for_background() -> None:
    torch.manual_seed(0)
    head = Float32Head(256, 9, 6)
    with torch.inference_mode():
        scores = head([torch.randn(2, 256, 20, 20)])["cls_logits"].sigmoid()
    assert 0.005 < scores.median() < 0.02
