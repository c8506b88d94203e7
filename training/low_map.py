"""The callback that explains a low mAP while the training goes on."""

from __future__ import annotations

import pytorch_lightning as pl

from data.dataset import DataSplits
from evaluation.console_report import finding_lines
from evaluation.diagnosis.facts import Facts
from evaluation.diagnosis.facts_text import facts_as_text
from evaluation.diagnosis.gather import gather_facts
from evaluation.diagnosis.rank import diagnose
from evaluation.metrics.operating_point import OperatingPoints, score_threshold
from model.lightning_trainer import DetectorModule
from utils.console import say
from utils.errors import first_line

LOW_MAP_50 = 0.01
FIRST_EPOCH = 2  # before, nothing has been learned that could be judged


class LowMapDiagnosis(pl.Callback):
    """Prints why, once in a run, at the first validation from epoch 2 on with mAP50 below 0.01.

    pretrained: whether the backbone began with weights that had been trained. requested_threshold:
    the user's score threshold, else the one that the validation recommends is in use. A failure of
    the diagnosis is one line, and training goes on.
    """

    def __init__(
        self, splits: DataSplits, pretrained: bool, requested_threshold: float | None = None
    ) -> None:
        self.splits, self.pretrained = splits, pretrained
        self.requested_threshold = requested_threshold
        self.explained = False

    def state_dict(self) -> dict[str, bool]:
        return {"explained": self.explained}

    def load_state_dict(self, state_dict: dict[str, bool]) -> None:
        self.explained = state_dict.get("explained", False)  # an older run has none

    # The recorder forgets the metrics when the epoch ends, which is later than this.
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.explained or trainer.sanity_checking or trainer.current_epoch + 1 < FIRST_EPOCH:
            return
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DetectorModule)
        metrics = pl_module.metrics
        if metrics is None or metrics.map_50 >= LOW_MAP_50:
            return
        self.explained = True
        try:
            facts = self._facts(trainer, pl_module)
            lines = finding_lines(diagnose(facts))
            lines += [f"{label}: {text}" for label, text in facts_as_text(facts)]
        except Exception as error:
            what = f"{type(error).__name__}, {first_line(error)}"
            say("diagnosis", f"mAP is low, but finding out why failed: {what}")
            return
        say("diagnosis", "why mAP is low, the most likely cause first:")
        for line in lines:
            say("", line)

    def _facts(self, trainer: pl.Trainer, module: DetectorModule) -> Facts:
        training = module.training_facts()
        if "loss" in trainer.callback_metrics:
            training["loss"] = float(trainer.callback_metrics["loss"])
        return gather_facts(
            module.model,
            self.splits,
            module.evaluation,
            OperatingPoints(module.evaluation),
            score_threshold(self.requested_threshold, module.score_threshold),
            pretrained=self.pretrained,
            training=training,
        )
