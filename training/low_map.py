"""The callback that says, while a training goes on, why its mAP is low."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_lightning as pl

from data.dataset import DataSplits
from evaluation.diagnosis.facts import Facts
from evaluation.diagnosis.facts_text import measured
from evaluation.diagnosis.gather import diagnosis_lines, examine
from evaluation.diagnosis.rank import diagnose
from evaluation.metrics.operating_point import score_threshold
from model.lightning_trainer import DetectorModule
from utils.errors import first_line

LOW_MAP_50 = 0.01
FIRST_EPOCH = 2  # before, nothing has been learned that could be judged


class LowMapDiagnosis(pl.Callback):
    """Says why, once in a run, at the first validation from epoch 2 on with mAP50 under 0.01.

    say: prints a line. threshold: the score from which detections would be shown. A failure of the
    diagnosis is said in one line, and training goes on.
    """

    def __init__(
        self,
        splits: DataSplits,
        say: Callable[[str, str], None],
        asked_threshold: float | None = None,
    ) -> None:
        self.splits = splits
        self.asked_threshold = asked_threshold
        self.said = False
        self._say = say

    def state_dict(self) -> dict[str, bool]:
        return {"said": self.said}

    def load_state_dict(self, state_dict: dict[str, bool]) -> None:
        self.said = state_dict["said"]

    # The recorder forgets the metrics when the epoch ends, which is later than this.
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.said or trainer.sanity_checking or trainer.current_epoch + 1 < FIRST_EPOCH:
            return
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DetectorModule)
        metrics = pl_module.metrics
        if metrics is None or metrics.map_50 >= LOW_MAP_50:
            return
        self.said = True
        try:
            facts = self._facts(trainer, pl_module)
            lines = diagnosis_lines(diagnose(facts))
            lines += [f"{label}: {text}" for label, text in measured(facts)]
        except Exception as error:
            what = f"{type(error).__name__}, {first_line(error)}"
            self._say("diagnosis", f"mAP is low, but finding out why failed: {what}")
            return
        self._say("diagnosis", "why mAP is low, the most likely cause first:")
        for line in lines:
            self._say("", line)

    def _facts(self, trainer: pl.Trainer, module: DetectorModule) -> Facts:
        training = module.training_facts()
        if "loss" in trainer.callback_metrics:
            training["loss"] = float(trainer.callback_metrics["loss"])
        return examine(
            module.model,
            self.splits,
            module.results,
            score_threshold(self.asked_threshold, module.score_threshold),
            pretrained=bool(module.description.get("frozen_batch_norm")),
            training=training,
            evaluation=module.evaluation,
        )
