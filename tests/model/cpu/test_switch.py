"""With the kernels for a CPU and without, a detector trains and detects in the same way."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead

from model.cpu.candidate_head import CandidateHead
from model.cpu.switch import cpu_kernels_apply, use_cpu_kernels
from model.for_inference import for_inference
from tests.small_models import assert_same_detections, build, pictures, target, with_varied_outputs
from utils.hardware import Machine

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _switched_on_again() -> Iterator[None]:
    yield
    use_cpu_kernels(True)


@pytest.fixture(scope="module", params=["efficientnet-b0", "resnet50"])
def model(request: pytest.FixtureRequest) -> RetinaNet:
    torch.manual_seed(5)
    return with_varied_outputs(build(request.param, score_thresh=0.02))


def train_a_step(model: RetinaNet) -> list[Tensor]:
    """Two losses, all gradients, and the state after a step, in the order of the state dict."""
    model = copy.deepcopy(model).train()
    dtype = next(model.parameters()).dtype
    torch.manual_seed(6)
    images = [image.to(dtype) for image in pictures((64, 64), (48, 64), (90, 128))]
    targets = [target((4, 4, 40, 40)), target(), target((1, 2, 60, 30), (9, 9, 90, 80), label=6)]
    losses = model(images, targets)
    sum(losses.values()).backward()
    return [*losses.values(), *(p.grad for p in model.parameters()), *model.state_dict().values()]


# Batch norms of random weights amplify what another order of additions rounds differently.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-2)])
def test_losses_gradients_and_statistics_agree(
    model: RetinaNet, dtype: torch.dtype, tolerance: float
) -> None:
    model = copy.deepcopy(model).to(dtype)
    ours = train_a_step(model)
    use_cpu_kernels(False)
    ordinary = train_a_step(model)
    torch.testing.assert_close(ours[:2], ordinary[:2], rtol=min(tolerance, 1e-4), atol=0)
    for one, other in zip(ours, ordinary, strict=True):
        scale = max(1, float(other.detach().abs().max()))
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * scale)


@torch.no_grad()
def test_detections_agree(model: RetinaNet) -> None:
    images = pictures((64, 64), (48, 64), (90, 128))
    fast, direct = for_inference(model), model(images)
    assert all(len(one["scores"]) for one in direct)
    close: dict[str, float] = {"rtol": 0, "score_atol": 1e-4, "box_atol": 1e-2}
    assert_same_detections(fast(images), direct, **close)
    use_cpu_kernels(False)
    ordinary = for_inference(model)
    assert_same_detections(ordinary(images), direct, **close)
    assert type(fast.head) is CandidateHead and type(ordinary.head) is type(model.head)


@torch.no_grad()
@pytest.mark.parametrize("on", [True, False])
def test_bfloat16_detects_both_ways(model: RetinaNet, on: bool) -> None:
    use_cpu_kernels(on)
    machine = Machine(CPU, "bf16")
    with machine.autocast():
        (result,) = for_inference(model, machine)(pictures((64, 64)))
    assert len(result["scores"]) > 0 and torch.isfinite(result["boxes"]).all()


def test_switched_off_the_head_is_torchvisions() -> None:
    model = build()
    features = [torch.randn(1, 256, side, side) for side in (8, 4)]
    use_cpu_kernels(False)
    expected = RetinaNetHead.forward(model.head, features)
    for name, output in model.head(features).items():
        assert torch.equal(output, expected[name])


def test_they_apply_to_full_precision_on_a_cpu_alone() -> None:
    x = torch.zeros(2)
    assert cpu_kernels_apply(x) and cpu_kernels_apply(x.double())
    assert not cpu_kernels_apply(x.bfloat16())
    assert not cpu_kernels_apply(torch.zeros(2, device="meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not cpu_kernels_apply(x)

    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if cpu_kernels_apply(x) else x - 1

    assert Asks()(x)[0] == 1 and torch.compile(Asks(), backend="eager")(x)[0] == -1
    use_cpu_kernels(False)
    assert not cpu_kernels_apply(x)
