"""The Lite family from the command line: a run, its end, and what becomes of its checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from main import main
from model.checkpoint import load_checkpoint
from model.network.efficientnet_family import ABOUT_ONE, IMAGENET
from tests.predicting import noise, saved
from tests.tiny_runs import CPU, FAST, monitor, place, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("sigint_as_before")]
Capture = pytest.CaptureFixture[str]
SMALL = ("--image-size", "64", "--epochs", "1", "--crop-pretraining", "1steps")


@pytest.fixture(scope="module")
def lite_run(tiny_cards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("lite")
    flags = (*FAST, *SMALL, "-m", "efficientnet-lite0", "--trainable-layers", "4")
    assert main([*place(tiny_cards, output), *flags]) == 0
    return output / "run"


def test_a_lite_run_starts_from_the_installed_weights_and_says_so(
    tiny_cards: Path, tmp_path: Path, capsys: Capture
) -> None:
    flags = (*FAST, *SMALL, "-m", "efficientnet-lite0", "--learning-rate", "1e-9")
    assert main([*place(tiny_cards, tmp_path), *flags, "--crop-pretraining", "off"]) == 0
    out = capsys.readouterr().out
    assert "weights   the backbone's are from ImageNet\n" in out and "warning" not in out
    assert "scale     images of 64 px" in out
    description = load_checkpoint(tmp_path / "run" / "best.pth").description
    assert (description.image_mean, description.image_std) == ABOUT_ONE
    assert description.pretrained and not description.frozen_batch_norm


def test_its_checkpoint_is_monitored_predicts_and_reports(
    lite_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    best = lite_run / "best.pth"
    assert monitor(best, "--output", str(tmp_path / "monitor")) == 0
    measured = json.loads((tmp_path / "monitor" / "metrics.json").read_text())
    assert "AP IoU=0.50:0.95 area=all maxDets=100" in measured["coco"]
    page = (tmp_path / "monitor" / "report.html").read_text(encoding="utf-8")
    assert "efficientnet-lite0" in page and "began with ImageNet" in page
    photo = saved(tmp_path / "photo.png", noise(0))
    flags = ["--predict", str(photo), "--output", str(tmp_path / "predictions")]
    assert main(["-l", str(best), *CPU, *flags]) == 0


def test_its_run_goes_on(lite_run: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    shutil.copytree(lite_run, run)
    assert main(["--resume", str(run), "--epochs", "2", *CPU]) == 0
    assert "2/2" in capsys.readouterr().out
    old, new = (load_checkpoint(folder / "last.pth") for folder in (lite_run, run))
    assert old.description == new.description and (old.epoch, new.epoch) == (1, 2)
    stem = "backbone.body.network._conv_stem.weight"
    assert torch.equal(old.weights[stem], new.weights[stem]), "its first layers are frozen"


def test_a_checkpoint_of_the_version_before_loads_with_imagenet_s_normalisation(
    tiny_run: Path, tmp_path: Path
) -> None:
    content = torch.load(tiny_run / "best.pth", weights_only=True)
    for name in ("image_mean", "image_std", "backbone_origin"):
        del content["detector"][name]
    content["detector"]["format"] = 1
    torch.save(content, tmp_path / "old.pth")
    old = load_checkpoint(tmp_path / "old.pth")
    assert (old.description.image_mean, old.description.image_std) == IMAGENET
    assert not old.description.pretrained
    assert tuple(old.build_model().transform.image_mean) == IMAGENET.mean


def test_a_run_of_the_version_before_goes_on_with_whole_images(
    tiny_cards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trainer

    assert train(tiny_cards, tmp_path, "--epochs", "1", "--window", "0", "--copy-paste", "0") == 0
    config = tmp_path / "run" / "config.json"
    saved_config = json.loads(config.read_text())
    del saved_config["window"], saved_config["copy_paste"]
    config.write_text(json.dumps(saved_config))
    seen = []
    make = trainer.training_transform
    monkeypatch.setattr(
        trainer,
        "training_transform",
        lambda *args, **kinds: seen.append(kinds) or make(*args, **kinds),
    )
    assert main(["--resume", str(tmp_path / "run"), "--epochs", "2", *CPU]) == 0
    assert [(kinds["window"], kinds["copy_paste"]) for kinds in seen] == [(0, 0)]
