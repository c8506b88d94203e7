"""RetinaNet for a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.image_list import ImageList

from model.network.anchor_matching import Objects, match
from model.network.forward import losses_and_detections
from model.network.losses import retinanet_losses
from model.network.post_processing import PostProcessing


class BatchedRetinaNet(RetinaNet):
    """Torchvision's RetinaNet, with the same weights, losses and detections.

    Torchvision matches anchors, computes losses and selects detections image by image and level by
    level, and waits for the GPU dozens of times per image. Here a training step never waits, and a
    batch of detections a few times. In evaluation only images of one size share a forward pass, see
    ``losses_and_detections``.
    """

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Any]] | None = None
    ) -> Any:
        """images: (3, H, W), uint8 or float in 0..1. See ``get_efficient_retinanet``.

        Raises ValueError for boxes without area on the CPU; a check would wait for a GPU.
        """
        if not self.training:
            return losses_and_detections(self, images, None)[1]
        if targets is None:
            raise ValueError("training needs targets, a dict of boxes and labels for each image")
        _refuse_empty_boxes(targets)
        return self._losses(*self.transform(images, targets))

    def losses_at_scale(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Any]]
    ) -> dict[str, Tensor]:
        """The training losses of images at the scale at which the model sees them already.

        Such as a window, cut out of an image whose longer side is ``image_size``.
        """
        _refuse_empty_boxes(targets)
        return self._losses(self.transform.batch(images), targets)

    def _losses(self, batch: ImageList, targets: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        features = list(self.backbone(batch.tensors).values())
        (anchors, *_) = self.anchor_generator(batch, features)
        objects, matches = self._match(targets, anchors)
        # Which anchors are matched to an object follows from the boxes alone; only their box
        # regression has a loss.
        outputs = self.head(features, matches >= 0)
        return retinanet_losses(outputs, anchors, objects, matches)

    def compile_network(self, backend: str = "inductor") -> None:
        """Compile backbone and head with torch.compile when they are first used.

        The names of the weights stay, and a copy of the model is not compiled. The rest is small,
        and its shapes depend on the objects. backend: torch.compile's.
        """
        self.backbone.compile(backend=backend)
        self.head.compile(backend=backend)

    def compute_loss(
        self,
        targets: Sequence[dict[str, Any]],
        head_outputs: dict[str, Tensor],
        anchors: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """anchors: (A, 4), xyxy, the same for each image of the batch."""
        objects, matches = self._match(targets, anchors[0])
        return retinanet_losses(head_outputs, anchors[0], objects, matches)

    def _match(self, targets: Sequence[dict[str, Any]], anchors: Tensor) -> tuple[Objects, Tensor]:
        objects = Objects.of(targets)
        matcher = self.proposal_matcher
        return objects, match(objects, anchors, matcher.high_threshold, matcher.low_threshold)

    def postprocess_detections(
        self,
        head_outputs: dict[str, list[Tensor]],
        anchors: Sequence[Sequence[Tensor]],
        image_shapes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """See ``PostProcessing``; anchors are those of each image, by level."""
        most = self.topk_candidates, self.detections_per_img
        process = PostProcessing(self.score_thresh, self.nms_thresh, *most, self.box_coder)
        outputs = head_outputs["cls_logits"], head_outputs["bbox_regression"]
        return process(*outputs, anchors[0], image_shapes)


def _refuse_empty_boxes(targets: Sequence[dict[str, Any]]) -> None:
    for number, target in enumerate(targets):
        boxes = target["boxes"]
        if boxes.device.type == "cpu" and boxes.numel():
            empty = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
            if empty.any():
                row = int(empty.int().argmax())
                raise ValueError(
                    f"image {number} of the batch, box {row + 1}, {boxes[row].tolist()}: no area"
                )
