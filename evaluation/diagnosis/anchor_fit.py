"""Which objects have an anchor: measured on the anchors that the model itself makes.

The loss of a RetinaNet calls an anchor an object from IoU 0.5 on
(https://arxiv.org/abs/1708.02002); an object without such an anchor is hardly learned.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from evaluation.diagnosis.anchor_coverage import AnchorFit, AnchorTrial, LevelFit
from model.efficient_retinanet import LEVELS
from model.network.resnet_retinanet import ANCHOR_SIZES

MATCH = 0.5  # IoU
CHUNK = 8192  # boxes at a time, which bounds the memory
# Flags are tried when more of the boxes than this lack an anchor.
WORTH_A_TRIAL = 0.05
TRIED_PICTURES = 100
TRIED_SIZES = (1, 2)  # times the image size
TRIED_SCALES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # times the anchor scale

Size = tuple[int, int]


def anchor_fit(
    model: RetinaNet, boxes: Sequence[Any], sizes: Sequence[tuple[int, int]]
) -> AnchorFit:
    """How many of the boxes have an anchor of IoU 0.5 after the model's own resizing.

    boxes: one (N, 4) tensor or array an image, xyxy, pixels of the image; N may be 0. sizes:
    (width, height) of each image. The model, its weights and the random state stay as they are;
    nothing is computed on its device.
    """
    pictures = [
        (torch.as_tensor(rows, dtype=torch.float32).detach().cpu().reshape(-1, 4), size)
        for rows, size in zip(boxes, sizes, strict=True)
        if len(rows)
    ]
    gauge = _Gauge(model, pictures)
    best, sides = gauge.measure()
    lacking = best.amax(dim=0) < MATCH
    smallest, largest = gauge.anchor_sides()
    image_size, scale = int(model.transform.max_size), _anchor_scale(model)
    trials = gauge.trials(image_size, scale) if _share(lacking) > WORTH_A_TRIAL else ()
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
        levels=gauge.levels(best),
        trials=trials,
    )


class _Gauge:
    """Measures the boxes of some pictures against a model's anchors."""

    def __init__(self, model: RetinaNet, pictures: Sequence[tuple[Tensor, Size]]) -> None:
        self.pictures = pictures
        self.transform = model.transform
        # A generator keeps the anchors of its last device: the model's own is left alone.
        self.generator = copy.deepcopy(model.anchor_generator)
        self._backbone = _without_data(model.backbone)
        self._maps: dict[int, list[int]] = {}

    def measure(
        self, generator: AnchorGenerator | None = None, enlarged: int = 1, every: int = 1
    ) -> tuple[Tensor, Tensor]:
        """float64 (levels, N), the best IoU of each box, and (N,), its side in model pixels.

        generator: by default the model's. enlarged: times the image size. every: which pictures.
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
        own, every = self.generator, math.ceil(len(self.pictures) / TRIED_PICTURES)
        found = []
        for enlarged in TRIED_SIZES:
            # The default is always among them, however far from it the model is.
            for factor in sorted({*TRIED_SCALES, 1 / anchor_scale}):
                sizes = tuple(tuple(factor * side for side in level) for level in own.sizes)
                other = type(own)(sizes, own.aspect_ratios)
                best, _ = self.measure(other, enlarged, every)
                lacking = _share(best.amax(dim=0) < MATCH)
                found.append(AnchorTrial(image_size * enlarged, anchor_scale * factor, lacking))
        return tuple(found)

    def levels(self, best: Tensor) -> tuple[LevelFit, ...]:
        """best: as ``measure`` gives it."""
        side = self._padded((self.transform.max_size,) * 2)[0]
        maps = self._map_sides(side)
        matched = best >= MATCH
        # The first of equals is the finest level.
        own = best.argmax(dim=0)
        return tuple(
            LevelFit(
                stride=side // maps[level],
                sides=tuple(sorted({round(s, 1) for s in _sides(cells).tolist()})),
                without_anchor=_share(~matched[level]),
                best_here=_share(matched[level] & (own == level)),
            )
            for level, cells in enumerate(self.generator.cell_anchors)
        )

    def anchor_sides(self) -> tuple[float, float]:
        """The smallest and the largest, the square root of the area in pixels."""
        sides = torch.cat([_sides(cells) for cells in self.generator.cell_anchors])
        return float(sides.min()), float(sides.max())

    def _resized(self, enlarged: int, every: int) -> dict[Size, Tensor]:
        """The boxes, float64 (N, 4), as the model resizes them, by the padded size they lie in."""
        transform = copy.copy(self.transform)
        transform.max_size = enlarged * transform.max_size
        transform.min_size = tuple(enlarged * side for side in transform.min_size)
        groups: dict[Size, list[Tensor]] = defaultdict(list)
        for rows, (width, height) in self.pictures[::every]:
            image = torch.empty(3, height, width, device="meta")
            image, target = transform.resize(image, {"boxes": rows})
            groups[self._padded(image.shape[-2:])].append(target["boxes"].double())
        return {padded: torch.cat(rows) for padded, rows in groups.items()}

    def _padded(self, size: Sequence[int]) -> Size:
        image = torch.empty(3, *size, device="meta")
        height, width = self.transform.batch_images([image]).shape[-2:]
        return int(height), int(width)

    def _map_sizes(self, padded: Size) -> list[Size]:
        """(height, width) of each feature map of an image of this size."""
        return list(zip(*(self._map_sides(side) for side in padded), strict=True))

    def _map_sides(self, side: int) -> list[int]:
        """Of each feature map; of a network of convolutions each side follows from its own."""
        if side not in self._maps:
            with torch.no_grad():
                maps = self._backbone(torch.empty(1, 3, side, side, device="meta"))
            self._maps[side] = [int(m.shape[-1]) for m in maps.values()]
        return self._maps[side]

    def _grids(self, generator: AnchorGenerator, padded: Size) -> list[Tensor]:
        """The anchors of each level, float64 (H, W, A, 4), xyxy in pixels of the padded image."""
        maps = self._map_sizes(padded)
        # Tensors without a channel: the generator asks for nothing but their shapes.
        images = ImageList(torch.empty(1, 0, *padded), [padded])
        anchors = generator(images, [torch.empty(1, 0, *size) for size in maps])[0].double()
        kinds = generator.num_anchors_per_location()
        lengths = [h * w * n for (h, w), n in zip(maps, kinds, strict=True)]
        parts = zip(anchors.split(lengths), maps, kinds, strict=True)
        return [part.view(h, w, n, 4) for part, (h, w), n in parts]


def _without_data(module: nn.Module) -> nn.Module:
    """A copy, in evaluation mode, that computes shapes only; it takes no memory for weights."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm2d, FrozenBatchNorm2d)):
            # It changes no shape, and is most of the time without a device to compute on.
            memo[id(part)] = nn.Identity()
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(module, memo).eval()


def _best_iou(boxes: Tensor, grid: Tensor) -> Tensor:
    """float64 (N,): of boxes (N, 4) over anchors (H, W, A, 4), one kind of them in each location.

    The anchors of a kind form a regular grid, so the nearest in x and in y overlaps most: a look at
    A anchors a box and not at H * W * A.
    """
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    across = _overlap(x1, x2, grid[0, :, :, 0], grid[0, :, :, 2])
    down = _overlap(y1, y2, grid[:, 0, :, 1], grid[:, 0, :, 3])
    common = across * down
    cells = grid[0, 0]
    areas = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])
    own = ((x2 - x1) * (y2 - y1))[:, None]
    return (common / (own + areas - common)).amax(dim=1)


def _overlap(low: Tensor, high: Tensor, lows: Tensor, highs: Tensor) -> Tensor:
    """(N, A): of intervals (N,) with the nearest of (L, A), which lie in regular steps."""
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


def _share(rows: Tensor) -> float:
    """Of a bool (N,); nan for N = 0."""
    return float(rows.double().mean()) if len(rows) else math.nan
