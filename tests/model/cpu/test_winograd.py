"""Winograd's convolution is a convolution, whatever the maps' shapes and the requested tiles."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead

from model.cpu.candidate_head import has_plain_towers
from model.cpu.tiles import Tiles, as_rows, tiles_of
from model.cpu.tower import Tower
from model.cpu.trainable_tower import trainable_tower

SHAPES = ((9, 14), (4, 8), (3, 3), (1, 1), (5, 1))
DEPTHS = pytest.mark.parametrize("channels", [(24,), (24, 8), (16, 24, 8, 5)], ids=str)


@pytest.fixture
def maps() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, 16, *shape) for shape in SHAPES]


def convolutions(*channels: int, bias: bool = True) -> list[nn.Conv2d]:
    torch.manual_seed(1)
    return [nn.Conv2d(a, b, 3, padding=1, bias=bias) for a, b in pairwise((16, *channels))]


def direct(maps: list[Tensor], layers: list[nn.Conv2d]) -> Tensor:
    """Rows of what torch's own convolutions give."""
    for layer in layers[:-1]:
        maps = [layer(m).relu() for m in maps]
    return as_rows([layers[-1](m) for m in maps])[0][:-1]


def mask_of(locations: Sequence[int], tiles: Tiles) -> Tensor:
    mask = torch.zeros(tiles.rows + 1, dtype=torch.bool)
    mask[list(locations)] = True
    return mask


def gradients_of(maps: list[Tensor], layers: list[nn.Conv2d], out: Tensor) -> list[Tensor]:
    parameters = [p for layer in layers for p in layer.parameters()]
    return list(torch.autograd.grad(out, [*maps, *parameters], retain_graph=True))


assert_all_close = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


# --- tiles ---


def test_every_location_is_written_once() -> None:
    tiles = tiles_of(2, SHAPES)
    inside = tiles.writes[tiles.writes < tiles.rows]
    assert inside.sort().values.tolist() == list(range(tiles.rows))


@pytest.mark.parametrize("locations", [range(336), [5, 40, 130], []], ids=len)
def test_tile_order_and_map_order_are_inverse_where_tiles_write(locations: Sequence[int]) -> None:
    every = tiles_of(2, SHAPES)
    tiles = every.writing(mask_of(locations, every))
    matrix = torch.arange(every.rows + 1)
    back = matrix[tiles.to_tile_order][tiles.to_map_order]
    written = torch.isin(matrix, tiles.writes)
    assert (back[written] == matrix[written]).all()
    assert (back[~written] == every.rows).all()
    assert (tiles.to_tile_order[tiles.padding_rows] == every.rows).all()
    assert len(tiles.padding_rows) == len(tiles.to_tile_order) - written[:-1].sum()
    assert tiles.to_map_order is tiles.to_map_order, "computed once"


def test_around_is_a_location_and_its_neighbours_on_its_own_map() -> None:
    tiles = tiles_of(2, SHAPES)
    for start, (height, width) in ((0, SHAPES[0]), (126, SHAPES[1]), (168, SHAPES[4])):
        for location in {0, width - 1, height * width - 1, width * (height // 2)}:
            y, x = divmod(location, width)
            expected = {
                start + j * width + i
                for j in range(max(0, y - 1), min(height, y + 2))
                for i in range(max(0, x - 1), min(width, x + 2))
            }
            around = tiles.around(mask_of([start + location], tiles))
            assert set(around.nonzero().flatten().tolist()) == expected


def test_each_layer_before_needs_a_location_more(maps: list[Tensor]) -> None:
    tiles = as_rows(maps)[1]
    mask = mask_of([7, -1], tiles)
    needed = [set(n.writes.flatten().tolist()) - {tiles.rows} for n in tiles.leading_to(mask, 2)]
    first, second, last = needed
    assert 7 in last and last <= second <= first
    assert {6, 7, 8, 20, 21, 22} <= second
    assert mask.nonzero().flatten().tolist() == [7, tiles.rows], "the mask stays as it was"


def test_a_table_made_for_inference_serves_training() -> None:
    tiles_of.cache_clear()
    with torch.inference_mode():
        tiles = tiles_of(1, ((4, 4),))
        assert len(tiles.to_map_order) == 17
    for index in (tiles.reads.flatten(), tiles.to_map_order, tiles.to_tile_order):
        rows = torch.randn(17, 2, requires_grad=True)
        rows.index_select(0, index).sum().backward()
        assert rows.grad is not None


# --- towers, for inference and for training ---


def inference(rows: Tensor, needed: list[Tiles], layers: list[nn.Conv2d]) -> Tensor:
    return Tower(layers)(rows, needed)


def training(rows: Tensor, needed: list[Tiles], layers: list[nn.Conv2d]) -> Tensor:
    return trainable_tower(rows, [needed[0], *needed], layers)


EITHER = pytest.mark.parametrize("tower", [inference, training])


@torch.no_grad()
@EITHER
@DEPTHS
@pytest.mark.parametrize("bias", [True, False])
def test_it_equals_the_convolutions_on_maps_of_any_shape(
    maps: list[Tensor], channels: tuple[int, ...], bias: bool, tower: Callable[..., Tensor]
) -> None:
    layers = convolutions(*channels, bias=bias)
    rows, tiles = as_rows(maps)
    out = tower(rows, [tiles] * len(layers), layers)
    torch.testing.assert_close(out[:-1], direct(maps, layers), rtol=1e-5, atol=1e-5)
    assert (out[-1] == 0).all()


@torch.no_grad()
@EITHER
def test_only_the_tiles_that_are_needed_are_computed(
    maps: list[Tensor], tower: Callable[..., Tensor]
) -> None:
    layers = convolutions(24)
    rows, tiles = as_rows(maps)
    mask = mask_of([5, 40, 130, 300], tiles)
    few = tiles.writing(mask)
    assert 0 < few.reads.shape[1] <= 4 < tiles.reads.shape[1]
    some, every = (tower(rows, [needed], layers) for needed in (few, tiles))
    torch.testing.assert_close(some[mask], every[mask])
    untouched = ~torch.isin(torch.arange(len(rows)), few.writes)
    assert untouched.any() and (some[untouched] == 0).all()


@DEPTHS
@pytest.mark.parametrize("at_once", [4, 128])
def test_gradients_are_those_of_the_convolutions(
    maps: list[Tensor],
    channels: tuple[int, ...],
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model.cpu.tiles.TILES_AT_ONCE", at_once)
    layers = [layer.double() for layer in convolutions(*channels)]
    maps = [m.double().requires_grad_() for m in maps]
    rows, tiles = as_rows(maps)
    assert tiles.reads.shape[1] > 2 * 4
    out = training(rows, [tiles] * len(layers), layers)
    expected = direct(maps, layers)
    gradients, theirs = (gradients_of(maps, layers, (x**2).sum()) for x in (out, expected))
    assert_all_close([out[:-1], *gradients], [expected, *theirs])
    # One of the zeros behind the locations changes nothing.
    assert_all_close(gradients_of(maps, layers, (out**2).sum() + out[-1].sum()), gradients)


@pytest.mark.parametrize("needed", [[], [0], [5, 40, 130, 300, 449], range(450)], ids=str)
def test_where_only_some_outputs_are_needed_they_and_all_gradients_are_exact(
    maps: list[Tensor], needed: Sequence[int]
) -> None:
    layers = [layer.double() for layer in convolutions(16, 24, 5)]
    maps = [m.double().requires_grad_() for m in maps]
    rows, tiles = as_rows(maps)
    mask = mask_of(needed, tiles)
    out = trainable_tower(rows, tiles.leading_to(mask, len(layers)), layers)[mask]
    expected = direct(maps, layers)[mask[:-1]]
    gradients, theirs = (gradients_of(maps, layers, (x**2).sum()) for x in (out, expected))
    assert_all_close([out, *gradients], [expected, *theirs])


@pytest.mark.parametrize(
    "needing",
    [("rows",), ("0.weight", "1.bias"), ("1.weight",), ("rows", "0.bias", "1.weight"), ("1.bias",)],
    ids=" ".join,
)
def test_only_the_requested_gradients_are_computed(
    maps: list[Tensor], needing: tuple[str, ...]
) -> None:
    layers = nn.ModuleList(convolutions(24, 8)).double()
    rows, tiles = as_rows([m.double() for m in maps])
    tensors = {"rows": rows.requires_grad_(), **dict(layers.named_parameters())}
    full = trainable_tower(rows, [tiles] * 3, list(layers)).pow(2).sum()
    expected = dict(zip(tensors, torch.autograd.grad(full, list(tensors.values())), strict=True))
    for name, tensor in tensors.items():
        tensor.requires_grad_(name in needing)
    trainable_tower(rows, [tiles] * 3, list(layers)).pow(2).sum().backward()
    assert {name for name, tensor in tensors.items() if tensor.grad is not None} == set(needing)
    assert_all_close([tensors[name].grad for name in needing], [expected[name] for name in needing])


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3),
        nn.Conv2d(2, 2, 3, padding=1, stride=2),
        nn.Conv2d(2, 2, 3, padding=1, groups=2),
        nn.Conv2d(2, 2, 3, padding=2, dilation=2),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 2, 1),
        nn.ReLU(),
    ],
)
def test_heads_of_other_layers_are_not_replaced(layer: nn.Module) -> None:
    in_tower, at_end = RetinaNetHead(2, 1, 2), RetinaNetHead(2, 1, 2)
    assert has_plain_towers(in_tower) and has_plain_towers(at_end)
    in_tower.regression_head.conv[2][0] = layer
    at_end.classification_head.cls_logits = layer
    assert not any(has_plain_towers(module) for module in (in_tower, at_end, layer))
