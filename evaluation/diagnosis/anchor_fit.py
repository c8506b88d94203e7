"""Which objects have an anchor: measured on the anchors that the model itself makes.

RetinaNet's loss trains an anchor on an object from IoU 0.5 on (https://arxiv.org/abs/1708.02002);
an object without such an anchor is hardly learned.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from model.efficient_retinanet import LEVELS
from model.network.resnet_retinanet import ANCHOR_SIZES

MATCH = 0.5  # IoU
CHUNK = 8192  # boxes at a time, which bounds the memory
# Other flags are tried when a larger share of the boxes than this lacks an anchor.
TRIALS_FROM = 0.05
TRIAL_IMAGES = 100
TRIAL_SIZES = (1, 2)  # times the image size
TRIAL_SCALES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # times the anchor scale

Size = tuple[int, int]


@dataclass(frozen=True)
class LevelFit:
    """One level of the pyramid.

    stride: pixels from one anchor location to the next, as the model sees an image. sides: of its
    anchors, the square root of the area, in the same pixels, ascending. without_anchor: share of
    all boxes that have no anchor of IoU 0.5 on this level. best_here: share of all boxes whose best
    anchor is on this level and has IoU 0.5; of equally good levels the finest counts.
    """

    stride: int
    sides: tuple[float, ...]
    without_anchor: float
    best_here: float


@dataclass(frozen=True)
class AnchorTrial:
    """What other flags would give. without_anchor: share of the boxes of a sample of the images."""

    image_size: int
    anchor_scale: float
    without_anchor: float


@dataclass(frozen=True)
class AnchorFit:
    """Shares are fractions 0..1 of all boxes, nan without a box.

    without_anchor: no anchor of any level reaches IoU 0.5. It is the sum of too_small (smaller than
    every anchor), too_large and odd_shape (neither: their shape, or their position between the
    anchors). Sides, of the median box and of the anchors: square roots of areas, in pixels as the
    model sees them. trials: other flags, measured only where boxes lack an anchor.
    """

    boxes: int
    without_anchor: float
    too_small: float
    too_large: float
    odd_shape: float
    median_side: float
    smallest_side: float
    largest_side: float
    image_size: int
    anchor_scale: float
    levels: tuple[LevelFit, ...]
    trials: tuple[AnchorTrial, ...] = ()


def anchor_fit(model: RetinaNet, boxes: Sequence[Any], sizes: Sequence[Size]) -> AnchorFit:
    """How many of the boxes have an anchor of IoU 0.5 after the model's own resizing.

    boxes: one (N, 4) tensor or array per image, xyxy, pixels of the image; N may be 0. sizes:
    (width, height) of each image. The model, its weights and the random state stay as they are;
    nothing is computed on its device.
    """
    images = [
        (torch.as_tensor(rows, dtype=torch.float32).detach().cpu().reshape(-1, 4), size)
        for rows, size in zip(boxes, sizes, strict=True)
        if len(rows)
    ]
    meter = _AnchorMeter(model, images)
    best, sides = meter.measure()
    lacking = best.amax(dim=0) < MATCH
    anchors = torch.cat([_sides(cells) for cells in meter.generator.cell_anchors])
    smallest, largest = float(anchors.min()), float(anchors.max())
    image_size, scale = int(model.transform.max_size), _anchor_scale(model)
    return AnchorFit(
        boxes=len(sides),
        without_anchor=_share(lacking),
        too_small=_share(lacking & (sides < smallest)),
        too_large=_share(lacking & (sides > largest)),
        odd_shape=_share(lacking & (sides >= smallest) & (sides <= largest)),
        median_side=float(sides.median()) if len(sides) else math.nan,
        smallest_side=smallest,
        largest_side=largest,
        image_size=image_size,
        anchor_scale=scale,
        levels=meter.levels(best),
        trials=meter.trials(image_size, scale) if _share(lacking) > TRIALS_FROM else (),
    )


class _AnchorMeter:
    """Measures the boxes of a list of images against a model's anchors."""

    def __init__(self, model: RetinaNet, images: Sequence[tuple[Tensor, Size]]) -> None:
        self.images = images
        self.transform = model.transform
        # A generator keeps the anchors of its last device, so that the model's is not used.
        self.generator = copy.deepcopy(model.anchor_generator)
        self._backbone = shapes_only(model.backbone)
        self._map_sides: dict[int, list[int]] = {}

    def measure(
        self, generator: AnchorGenerator | None = None, enlarged: int = 1, every: int = 1
    ) -> tuple[Tensor, Tensor]:
        """float64 (levels, N), the best IoU of each box, and (N,), its side in model pixels.

        generator: by default the model's. enlarged: factor of the image size. every: step through
        the images.
        """
        generator = generator or self.generator
        groups = self._resized(enlarged, every)
        best = [torch.zeros(len(generator.sizes), 0, dtype=torch.float64)]
        for padded, rows in groups.items():
            grids = self._grids(generator, padded)
            for chunk in rows.split(CHUNK):
                best.append(torch.stack([_best_iou(chunk, grid) for grid in grids]))
        joined = torch.cat([torch.zeros(0, 4, dtype=torch.float64), *groups.values()])
        extent = (joined[:, 2:] - joined[:, :2]).clamp(min=0)
        return torch.cat(best, dim=1), extent.prod(dim=1).sqrt()

    def trials(self, image_size: int, anchor_scale: float) -> tuple[AnchorTrial, ...]:
        """The boxes without an anchor under other flags."""
        generator, every = self.generator, math.ceil(len(self.images) / TRIAL_IMAGES)
        trials = []
        for enlarged in TRIAL_SIZES:
            # The default scale is always among them, however far from it the model is.
            for factor in sorted({*TRIAL_SCALES, 1 / anchor_scale}):
                sizes = tuple(tuple(factor * side for side in level) for level in generator.sizes)
                other = type(generator)(sizes, generator.aspect_ratios)
                best, _ = self.measure(other, enlarged, every)
                lacking = _share(best.amax(dim=0) < MATCH)
                trials.append(AnchorTrial(image_size * enlarged, anchor_scale * factor, lacking))
        return tuple(trials)

    def levels(self, best: Tensor) -> tuple[LevelFit, ...]:
        """best: as ``measure`` gives it."""
        side = self._padded((self.transform.max_size,) * 2)[0]
        matched = best >= MATCH
        best_level = best.argmax(dim=0)  # of equals the first, which is the finest level
        return tuple(
            LevelFit(
                stride=side // map_side,
                sides=tuple(sorted({round(s, 1) for s in _sides(cells).tolist()})),
                without_anchor=_share(~matched[level]),
                best_here=_share(matched[level] & (best_level == level)),
            )
            for level, (cells, map_side) in enumerate(
                zip(self.generator.cell_anchors, self._sides_of_maps(side), strict=True)
            )
        )

    def _resized(self, enlarged: int, every: int) -> dict[Size, Tensor]:
        """The boxes, float64 (N, 4), as the model resizes them, grouped by padded image size."""
        transform = copy.copy(self.transform)
        transform.max_size = enlarged * transform.max_size
        transform.min_size = tuple(enlarged * side for side in transform.min_size)
        groups: dict[Size, list[Tensor]] = defaultdict(list)
        for rows, (width, height) in self.images[::every]:
            image = torch.empty(3, height, width, device="meta")
            image, target = transform.resize(image, {"boxes": rows})
            groups[self._padded(image.shape[-2:])].append(target["boxes"].double())
        return {padded: torch.cat(rows) for padded, rows in groups.items()}

    def _padded(self, size: Sequence[int]) -> Size:
        image = torch.empty(3, *size, device="meta")
        height, width = self.transform.batch_images([image]).shape[-2:]
        return int(height), int(width)

    def _sides_of_maps(self, side: int) -> list[int]:
        """Height of each feature map for this image height; the same holds for widths.

        In a network of convolutions the one does not depend on the other.
        """
        if side not in self._map_sides:
            with torch.no_grad():
                maps = self._backbone(torch.empty(1, 3, side, side, device="meta"))
            self._map_sides[side] = [int(m.shape[-1]) for m in maps.values()]
        return self._map_sides[side]

    def _grids(self, generator: AnchorGenerator, padded: Size) -> list[Tensor]:
        """The anchors of each level, float64 (H, W, A, 4), xyxy in pixels of the padded image."""
        maps = list(zip(*map(self._sides_of_maps, padded), strict=True))
        # Tensors without a channel: the generator uses nothing but their shapes.
        images = ImageList(torch.empty(1, 0, *padded), [padded])
        anchors = generator(images, [torch.empty(1, 0, *size) for size in maps])[0].double()
        kinds = generator.num_anchors_per_location()
        lengths = [h * w * n for (h, w), n in zip(maps, kinds, strict=True)]
        parts = zip(anchors.split(lengths), maps, kinds, strict=True)
        return [part.view(h, w, n, 4) for part, (h, w), n in parts]


def shapes_only(module: nn.Module) -> nn.Module:
    """A copy, in evaluation mode, that computes shapes only; it takes no memory for weights."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm2d, FrozenBatchNorm2d)):
            # It changes no shape, and takes most of the time on the meta device.
            memo[id(part)] = nn.Identity()
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(module, memo).eval()


def _best_iou(boxes: Tensor, grid: Tensor) -> Tensor:
    """float64 (N,): the best IoU of each of (N, 4) boxes with anchors (H, W, A, 4).

    The anchors of one shape form a regular grid, so that the nearest in x and in y overlaps most:
    each box is compared with A anchors and not with H * W * A.
    """
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    across = _overlap(x1, x2, grid[0, :, :, 0], grid[0, :, :, 2])
    down = _overlap(y1, y2, grid[:, 0, :, 1], grid[:, 0, :, 3])
    common = across * down
    cells = grid[0, 0]
    areas = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])
    box_areas = ((x2 - x1) * (y2 - y1))[:, None]
    return (common / (box_areas + areas - common)).amax(dim=1)


def _overlap(low: Tensor, high: Tensor, lows: Tensor, highs: Tensor) -> Tensor:
    """(N, A): overlap of N intervals with the nearest of (L, A), which are evenly spaced."""
    first, last = (lows[0] + highs[0]) / 2, (lows[-1] + highs[-1]) / 2
    step = ((last - first) / max(1, len(lows) - 1)).clamp(min=1e-9)
    nearest = (((low + high) / 2)[:, None] - first) / step
    nearest = nearest.round().clamp(0, len(lows) - 1).long()
    ends = torch.minimum(high[:, None], highs.gather(0, nearest))
    return (ends - torch.maximum(low[:, None], lows.gather(0, nearest))).clamp(min=0)


def _sides(cells: Tensor) -> Tensor:
    return ((cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])).sqrt()


def _anchor_scale(model: RetinaNet) -> float:
    """The ``anchor_scale`` that the model was built with."""
    sizes = model.anchor_generator.sizes
    base = LEVELS[0].anchor_size if len(sizes) == len(LEVELS) else ANCHOR_SIZES[0][0]
    return sizes[0][0] / base


def _share(mask: Tensor) -> float:
    """The share that is true in a bool (N,); nan for N = 0."""
    return float(mask.double().mean()) if len(mask) else math.nan
