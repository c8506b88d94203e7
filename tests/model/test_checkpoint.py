"""Checkpoints: whole or not at all, plain tensors and values, and a readable line otherwise."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.detection import RetinaNet

from model import checkpoint
from model.checkpoint import (
    FORMAT_VERSION,
    DetectorDescription,
    WholeCheckpointIO,
    load_checkpoint,
    refuse_to_resume,
    write_whole,
)
from model.lightning_trainer import DetectorModule
from tests.memory_data import quiet_trainer
from tests.small_models import (
    DESCRIPTION,
    SIDE,
    assert_same_detections,
    pictures,
    with_varied_outputs,
)
from utils.errors import UserError


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    torch.manual_seed(1)
    return with_varied_outputs(DESCRIPTION.build(score_thresh=0.01))


@pytest.fixture(scope="module")
def content(model: RetinaNet) -> dict[str, Any]:
    """Of a best.pth."""
    plain, weights = DESCRIPTION.as_plain(), model.state_dict()
    return {"detector": plain, "weights": weights, "epoch": 4, "metrics": {"mAP": 0.5}}


@pytest.fixture(scope="module")
def saved(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best.pth"
    write_whole(content, path)
    return path


class Broken:
    """Fails in the middle of being written."""

    def __reduce__(self) -> Any:
        raise OSError("No space left on device")


# --- writing ---


def test_a_writer_that_fails_leaves_the_old_file_if_any_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "run" / "best.pth"
    with pytest.raises(OSError, match="No space left"):
        write_whole(Broken(), path)
    assert list(path.parent.iterdir()) == []
    write_whole({"a": 1}, path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        write_whole({"weights": torch.zeros(1000), "broken": Broken()}, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["best.pth"]


class Interrupted(io.FileIO):
    """A file while whose writing Ctrl-C is pressed."""

    def write(self, data: Any) -> int:
        if self.tell() > 50_000:
            raise KeyboardInterrupt
        return super().write(data)


def test_ctrl_c_while_a_file_is_written_stays_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.checkpoint.open", Interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        write_whole({str(i): torch.zeros(10_000) for i in range(9)}, tmp_path / "best.pth")
    assert list(tmp_path.iterdir()) == []


def test_the_name_belongs_to_the_old_file_until_the_new_one_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.pth"
    write_whole("old", path)
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        assert torch.load(path) == "old"
        events.append("fsync")
        fsync(handle)

    def watched_replace(source: Path, goal: Path) -> None:
        assert torch.load(source) == "new"
        assert source.parent == goal.parent, "a rename is only whole within one disk"
        events.append("replace")
        replace(source, goal)

    monkeypatch.setattr(checkpoint.os, "fsync", watched_fsync)
    monkeypatch.setattr(checkpoint.os, "replace", watched_replace)
    WholeCheckpointIO().save_checkpoint("new", path)  # type: ignore[arg-type]
    assert events == ["fsync", "replace"]
    assert torch.load(path) == "new"


# --- reading ---


def test_a_checkpoint_rebuilds_the_model_with_equal_outputs(saved: Path, model: RetinaNet) -> None:
    assert torch.load(saved, weights_only=True)["detector"]["format"] == FORMAT_VERSION
    loaded = load_checkpoint(saved)
    assert loaded.description == DESCRIPTION
    assert (loaded.epoch, loaded.metrics) == (4, {"mAP": 0.5})
    rebuilt = loaded.build_model(score_thresh=0.01)
    assert not any(module.training for module in rebuilt.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in rebuilt.modules()), "it still trains"
    images = pictures((64, 64), (90, 128))
    with torch.no_grad():
        assert_same_detections(rebuilt(images), model(images))


def test_a_description_with_frozen_parts_rebuilds_them_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    description = DetectorDescription(
        "efficientnet-b0", ("a",), SIDE, frozen_batch_norm=True, trainable_layers=1
    )
    model = description.build()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    trainable = [p.requires_grad for p in model.backbone.body.parameters()]
    assert any(trainable) and not all(trainable) and len(recwarn) == 0
    path, weights = tmp_path / "a.pth", model.state_dict()
    write_whole({"detector": description.as_plain(), "weights": weights}, path)
    assert list(load_checkpoint(path).build_model().state_dict()) == list(weights)


def test_weights_are_loaded_into_a_model_of_other_classes_without_the_class_layer(
    saved: Path, model: RetinaNet
) -> None:
    other = DetectorDescription("efficientnet-b0", ("a", "b", "c"), SIDE).build()
    before = other.head.classification_head.cls_logits.weight.clone()
    with pytest.raises(UserError, match="do not fit the efficientnet-b0"):
        load_checkpoint(saved).load_into(other)
    partial = load_checkpoint(saved)
    partial.weights.popitem()
    with pytest.raises(UserError, match="do not fit"):
        partial.load_into(other, skip="cls_logits")
    load_checkpoint(saved).load_into(other, skip="cls_logits")
    assert torch.equal(other.head.classification_head.cls_logits.weight, before)
    stored, loaded = (m.head.regression_head.bbox_reg.weight for m in (model, other))
    assert torch.equal(stored, loaded)


# --- flags beside a checkpoint ---


def test_a_contradicting_flag_is_an_error_that_names_both_values(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    loaded.refuse_contradictions(model_name="efficientnet-b0", anchor_scale=None)
    with pytest.raises(UserError, match="--model resnet50: .* trained with efficientnet-b0"):
        loaded.refuse_contradictions(model_name="resnet50")
    with pytest.raises(UserError, match="--anchor-scale 0.5: .* trained with 0.25"):
        loaded.refuse_contradictions(model_name="efficientnet-b0", anchor_scale=0.5)


def test_only_a_run_with_a_state_and_epochs_left_can_be_resumed(
    saved: Path, content: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"--resume {saved}: .* last.pth"):
        refuse_to_resume(saved, epochs=9)
    path = tmp_path / "last.pth"
    # Lightning counts epochs from 0.
    write_whole({**content, "epoch": 4, "optimizer_states": []}, path)
    refuse_to_resume(path, epochs=5)
    with pytest.raises(UserError, match=f"--epochs 4: the run {tmp_path} has done 5 epochs"):
        refuse_to_resume(path, epochs=4)


def test_last_pth_holds_the_averaged_weights_as_best_pth_does(
    saved: Path, model: RetinaNet, tmp_path: Path
) -> None:
    path, names = tmp_path / "last.pth", DESCRIPTION.class_names
    module = DetectorModule(DESCRIPTION.build(), names, description=DESCRIPTION.as_plain())
    module.detector.load_state_dict(model.state_dict())
    trainer = quiet_trainer(plugins=[WholeCheckpointIO()])
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    last, best = load_checkpoint(path), load_checkpoint(saved)
    assert last.description == best.description
    assert list(last.weights) == list(best.weights)
    for name, tensor in best.weights.items():
        assert torch.equal(last.weights[name], tensor), name
    kept = torch.load(path, weights_only=True)["state_dict"]
    assert not any(name.startswith("average.module.") for name in kept), "stored twice"


@pytest.mark.parametrize(
    "stored, requested, used",
    [(0.37, None, 0.37), (0.37, 0.8, 0.8), (0.37, 0.0, 0.0), (None, None, 0.5), (None, 0.2, 0.2)],
)
def test_the_threshold_is_the_requested_one_else_the_stored_else_one_half(
    stored: float | None, requested: float | None, used: float, saved: Path, tmp_path: Path
) -> None:
    assert load_checkpoint(saved).score_threshold is None, "as in files of older versions"
    small = {"detector": DESCRIPTION.as_plain(), "weights": {}, "score_threshold": stored}
    write_whole(small, tmp_path / "best.pth")
    loaded = load_checkpoint(tmp_path / "best.pth")
    assert loaded.threshold(requested) == used and loaded.score_threshold == stored
