"""Checkpoints: whole or not at all, plain tensors and values, and a readable line otherwise."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet

from model import checkpoint
from model.checkpoint import (
    FORMAT_VERSION,
    Checkpoint,
    DetectorDescription,
    WholeCheckpointIO,
    load_checkpoint,
    refuse_to_resume,
    write_whole,
)
from model.lightning_trainer import DetectorModule
from model.network.backbone_weights import find_backbone_weights
from tests.small_models import SIDE, assert_same_detections, pictures, with_varied_outputs
from utils.errors import UserError

DESCRIPTION = DetectorDescription(
    model_name="efficientnet-b0",
    class_names=("ace", "king"),
    image_size=SIDE,
    anchor_scale=0.25,
    data={"path": "/cards", "seed": 3},
)


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    torch.manual_seed(1)
    return with_varied_outputs(DESCRIPTION.build(score_thresh=0.01))


@pytest.fixture(scope="module")
def content(model: RetinaNet) -> dict[str, Any]:
    """Of a best.pth."""
    return {
        "detector": DESCRIPTION.as_plain(),
        "weights": model.state_dict(),
        "epoch": 4,
        "metrics": {"mAP": 0.5},
    }


@pytest.fixture(scope="module")
def saved(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best.pth"
    write_whole(content, path)
    return path


class Broken:
    """Fails in the middle of being written."""

    def __reduce__(self) -> Any:
        raise OSError("No space left on device")


class NeedsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def error_of(path: Path) -> str:
    with pytest.raises(UserError) as error:
        load_checkpoint(path).build_model()
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    return text


# --- writing ---


def test_a_writer_that_fails_half_way_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "run" / "best.pth"
    write_whole({"a": 1}, path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        write_whole({"weights": torch.zeros(1000), "broken": Broken()}, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["best.pth"]


def test_a_writer_that_fails_leaves_no_new_file_either(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        write_whole(Broken(), tmp_path / "best.pth")
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
    loaded = load_checkpoint(saved)
    assert loaded.description == DESCRIPTION
    assert (loaded.epoch, loaded.metrics) == (4, {"mAP": 0.5})
    rebuilt = loaded.build_model(score_thresh=0.01)
    assert not any(module.training for module in rebuilt.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in rebuilt.modules()), "it still trains"
    images = pictures((64, 64), (90, 128))
    with torch.no_grad():
        assert_same_detections(rebuilt(images), model(images))


def test_a_checkpoint_holds_plain_values_and_tensors_only(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    assert content["detector"]["class_names"] == ["ace", "king"]
    assert content["detector"]["format"] == FORMAT_VERSION


def test_a_description_with_frozen_batch_norm_rebuilds_it(tmp_path: Path) -> None:
    description = DetectorDescription("efficientnet-b0", ("a",), SIDE, frozen_batch_norm=True)
    model = description.build()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    write_whole(
        {"detector": description.as_plain(), "weights": model.state_dict()}, tmp_path / "a.pth"
    )
    rebuilt = load_checkpoint(tmp_path / "a.pth").build_model()
    assert list(rebuilt.state_dict()) == list(model.state_dict())


def test_a_description_with_frozen_layers_rebuilds_them_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    model = DetectorDescription(
        "efficientnet-b0", ("a",), SIDE, frozen_batch_norm=True, trainable_layers=1
    ).build()
    body = [p.requires_grad for p in model.backbone.body.parameters()]
    assert any(body) and not all(body)
    assert len(recwarn) == 0


def test_a_pickle_that_needs_code_is_refused_and_not_run(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({**content, "weights": {}, "metrics": NeedsCode()}, path)
    error_of(path)
    path.write_bytes(pickle.dumps(NeedsCode()))
    error_of(path)
    assert not (tmp_path / "executed").exists()


def test_a_truncated_file_is_an_error_wherever_it_was_cut(
    content: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "cut.pth"
    for zipped in (True, False):
        small = {**content, "weights": {"a": torch.rand(3)}}
        torch.save(small, path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for length in range(0, len(whole) - 1, 37):
            path.write_bytes(whole[:length])
            assert "best.pth or last.pth" in error_of(path)


def packed(source: Path, target: Path, method: int) -> Path:
    """A PyTorch file whose parts are written once more, with a megabyte of blanks in its pickle."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for part in old.infolist():
            pickled = part.filename.endswith("data.pkl")
            new.writestr(part.filename, old.read(part) + bytes(2**20) * pickled)
    return target


@pytest.fixture
def small(content: dict[str, Any], tmp_path: Path) -> Path:
    torch.save({**content, "weights": {"a": torch.rand(3)}}, tmp_path / "small.pth")
    return tmp_path / "small.pth"


def test_compressed_parts_are_refused_before_they_are_unpacked(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_checkpoint(packed(small, tmp_path / "stored.pth", zipfile.ZIP_STORED))
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpacked"))
    bomb = packed(small, tmp_path / "bomb.pth", zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10_000
    assert "its parts are compressed, which PyTorch never writes" in error_of(bomb)
    with pytest.raises(UserError, match="--resume .*its parts are compressed"):
        refuse_to_resume(bomb, 9)
    with pytest.raises(UserError, match="--backbone-weights .*its parts are compressed"):
        find_backbone_weights("efficientnet-b0", str(bomb))


def test_parts_that_say_to_be_larger_than_their_file_are_refused(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(small.read_bytes())
    entry = content.index(b"PK\x01\x02")  # the directory's first entry
    content[entry + 24 : entry + 28] = (2**31).to_bytes(4, "little")  # its unpacked size
    small.write_bytes(content)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpacked"))
    assert "its parts are compressed" in error_of(small)


@pytest.mark.parametrize(
    "foreign",
    [
        {"conv1.weight": torch.zeros(3)},
        {"state_dict": {}, "epoch": 3},
        {"detector": 5},
        {"detector": {}},
        [1, 2],
        torch.zeros(3),
        None,
        "text",
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_foreign_file_is_an_error_that_says_what_to_give(foreign: Any, tmp_path: Path) -> None:
    torch.save(foreign, tmp_path / "foreign.pth")
    assert "does not describe a detector" in error_of(tmp_path / "foreign.pth")


@pytest.mark.parametrize(
    "damage",
    [{"epoch": "last"}, {"metrics": "good"}, {"weights": [1]}, {"weights": None}],
    ids=lambda value: next(iter(value)),
)
def test_values_of_the_wrong_kind_are_an_error(
    damage: dict[str, Any], content: dict[str, Any], tmp_path: Path
) -> None:
    torch.save({**content, **damage}, tmp_path / "a.pth")
    assert "does not describe a detector" in error_of(tmp_path / "a.pth")


@pytest.mark.parametrize("extra", [{}, {"field_of_tomorrow": 1}])
def test_a_newer_format_is_an_error_that_says_to_update(
    extra: dict[str, int], content: dict[str, Any], tmp_path: Path
) -> None:
    detector = {**content["detector"], "format": FORMAT_VERSION + 1, **extra}
    torch.save({**content, "detector": detector}, tmp_path / "a.pth")
    assert "newer version" in error_of(tmp_path / "a.pth")


def lost(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(list(weights.items())[1:])


def cut(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor[:1] if tensor.ndim else tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("damage", [lost, cut])
def test_damaged_weights_are_an_error(damage: Any, content: dict[str, Any], tmp_path: Path) -> None:
    torch.save({**content, "weights": damage(content["weights"])}, tmp_path / "a.pth")
    assert "efficientnet-b0 it describes" in error_of(tmp_path / "a.pth")


@pytest.mark.parametrize("detector", [{"model_name": "vgg"}, {"anchor_scale": None}])
def test_a_description_that_cannot_be_built_is_an_error(
    detector: dict[str, Any], content: dict[str, Any], tmp_path: Path
) -> None:
    torch.save({**content, "detector": {**content["detector"], **detector}}, tmp_path / "a.pth")
    error_of(tmp_path / "a.pth")


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    assert "no such file" in error_of(tmp_path / "nowhere.pth")
    assert "is a folder" in error_of(tmp_path)


# --- flags beside a checkpoint ---


def test_a_contradicting_flag_is_an_error_that_names_both_values(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    with pytest.raises(UserError, match="--model resnet50: .* trained with efficientnet-b0"):
        loaded.refuse_contradictions(model_name="resnet50")
    with pytest.raises(UserError, match="--anchor-scale 0.5: .* trained with 0.25"):
        loaded.refuse_contradictions(model_name="efficientnet-b0", anchor_scale=0.5)


def test_flags_that_agree_or_were_not_given_are_no_contradiction(saved: Path) -> None:
    load_checkpoint(saved).refuse_contradictions(model_name="efficientnet-b0", anchor_scale=None)


# --- resuming ---


def test_a_checkpoint_without_the_state_of_its_run_cannot_be_resumed(saved: Path) -> None:
    with pytest.raises(UserError, match=f"--resume {saved}: .* last.pth"):
        refuse_to_resume(saved, epochs=9)


def test_a_run_with_more_epochs_than_requested_is_refused_and_names_both(
    content: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "last.pth"
    # Lightning counts epochs from 0.
    write_whole({**content, "epoch": 4, "optimizer_states": []}, path)
    refuse_to_resume(path, epochs=5)
    with pytest.raises(UserError, match=f"--epochs 4: the run {tmp_path} has done 5 epochs"):
        refuse_to_resume(path, epochs=4)


# --- last.pth, which Lightning writes ---


def test_last_pth_holds_the_averaged_weights_as_best_pth_does(
    saved: Path, model: RetinaNet, tmp_path: Path
) -> None:
    path = tmp_path / "last.pth"
    module = DetectorModule(
        DESCRIPTION.build(), DESCRIPTION.class_names, description=DESCRIPTION.as_plain()
    )
    module.detector.load_state_dict(model.state_dict())
    trainer = pl.Trainer(
        logger=False,
        enable_checkpointing=False,
        plugins=[WholeCheckpointIO()],
        accelerator="cpu",
    )
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    last, best = load_checkpoint(path), load_checkpoint(saved)
    assert isinstance(last, Checkpoint)
    assert last.description == best.description
    assert list(last.weights) == list(best.weights)
    for name, tensor in best.weights.items():
        assert torch.equal(last.weights[name], tensor), name
    kept = torch.load(path, weights_only=True)["state_dict"]
    assert not any(name.startswith("average.module.") for name in kept), "stored twice"


# --- the score threshold ---


@pytest.mark.parametrize(
    "stored, requested, used",
    [(0.37, None, 0.37), (0.37, 0.8, 0.8), (0.37, 0.0, 0.0), (None, None, 0.5), (None, 0.2, 0.2)],
)
def test_the_threshold_is_the_requested_one_else_the_stored_else_one_half(
    stored: float | None,
    requested: float | None,
    used: float,
    content: dict[str, Any],
    tmp_path: Path,
) -> None:
    write_whole({**content, "score_threshold": stored}, tmp_path / "best.pth")
    assert load_checkpoint(tmp_path / "best.pth").threshold(requested) == used


def test_a_checkpoint_of_before_the_thresholds_loads(saved: Path) -> None:
    old = load_checkpoint(saved)
    assert old.score_threshold is None and old.threshold() == 0.5 and old.training == {}


@pytest.mark.parametrize(
    "wrong", [{"score_threshold": 7}, {"score_threshold": "high"}, {"training": 3}]
)
def test_a_threshold_that_is_none_is_a_readable_error(
    wrong: dict[str, Any], content: dict[str, Any], tmp_path: Path
) -> None:
    write_whole({**content, **wrong}, tmp_path / "best.pth")
    assert "does not describe a detector" in error_of(tmp_path / "best.pth")
