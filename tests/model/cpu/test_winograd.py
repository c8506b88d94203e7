"""Winograd's convolution is a convolution, whatever the maps' shapes and the tiles asked for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from model.cpu.tiles import Tiles, as_rows, tiles_of
from model.cpu.tower import ProductTower, Tower
from model.cpu.trainable_tower import trainable_tower
from model.cpu.winograd import WinogradTower
from model.cpu.winograd_conv2d import TrainableWinogradConv2d, WinogradConv2d, replaceable

EITHER = pytest.mark.parametrize("kind", [WinogradTower, ProductTower])
SHAPES = ((9, 14), (4, 8), (3, 3), (1, 1), (5, 1))


@pytest.fixture
def maps() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, 16, *shape) for shape in SHAPES]


def convolution(channels: int = 24, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(16, channels, 3, padding=1, bias=bias)


def rows_of(maps: list[Tensor]) -> Tensor:
    return as_rows(maps)[0][:-1]


def tower(*channels: int, bias: bool = True) -> list[nn.Conv2d]:
    torch.manual_seed(1)
    return [nn.Conv2d(a, b, 3, padding=1, bias=bias) for a, b in pairwise((16, *channels))]


def of_convolutions(maps: list[Tensor], layers: list[nn.Conv2d]) -> Tensor:
    for layer in layers[:-1]:
        maps = [layer(m).relu() for m in maps]
    return rows_of([layers[-1](m) for m in maps])


@torch.no_grad()
@EITHER
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels", [(24,), (24, 8), (16, 24, 8, 5)], ids=str)
def test_it_equals_the_convolutions_on_maps_of_any_shape(
    maps: list[Tensor], channels: tuple[int, ...], bias: bool, kind: type[Tower]
) -> None:
    layers = tower(*channels, bias=bias)
    rows, tiles = as_rows(maps)
    found = kind(layers)(rows, [tiles] * len(layers))
    expected = of_convolutions(maps, layers)
    torch.testing.assert_close(found[:-1], expected, rtol=1e-5, atol=1e-5)
    assert (found[-1] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("autocast", [True, False])
def test_a_single_map_may_stand_for_itself(autocast: bool) -> None:
    x, plain = torch.randn(2, 16, 13, 17), convolution()
    expected = plain(x)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = WinogradConv2d(plain)(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert WinogradConv2d(plain)(x.bfloat16()).dtype == torch.float32


@torch.no_grad()
@EITHER
def test_more_tiles_than_fit_at_once_are_all_computed(
    maps: list[Tensor], kind: type[Tower], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.cpu.tiles.TILES_AT_ONCE", 4)
    rows, tiles = as_rows(maps)
    assert tiles.reads.shape[1] > 2 * 4
    found, expected = kind([convolution()])(rows, [tiles]), of_convolutions(maps, [convolution()])
    torch.testing.assert_close(found[:-1], expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_products_in_bfloat16_are_as_exact_as_convolutions_in_bfloat16(
    maps: list[Tensor],
) -> None:
    layers = tower(24, 8)
    exact = of_convolutions(maps, layers)
    for layer in layers:
        layer.to(torch.bfloat16)
    in_bfloat16 = [m.to(torch.bfloat16) for m in maps]
    rows, tiles = as_rows(in_bfloat16)
    found = ProductTower(layers)(rows, [tiles] * 2)
    assert found.dtype == torch.float32
    errors = [(f - exact).abs().mean() for f in (found[:-1], of_convolutions(in_bfloat16, layers))]
    assert 0 < errors[0] < 1.5 * errors[1]


@torch.no_grad()
@EITHER
def test_only_the_tiles_asked_for_are_computed_and_they_are_right(
    maps: list[Tensor], kind: type[Tower]
) -> None:
    plain = convolution()
    rows, tiles = as_rows(maps)
    wanted = torch.zeros(len(rows), dtype=torch.bool)
    wanted[[5, 40, 130, 300]] = True
    some = tiles.writing(wanted)
    assert 0 < some.reads.shape[1] <= 4 < tiles.reads.shape[1]
    found, every = (kind([plain])(rows, [asked]) for asked in (some, tiles))
    torch.testing.assert_close(found[wanted], every[wanted])
    untouched = torch.ones(len(rows), dtype=torch.bool)
    untouched[some.writes.flatten()] = False
    assert untouched.any() and (found[untouched] == 0).all()


def test_rows_in_the_order_of_their_tiles_are_found_again() -> None:
    every = tiles_of(2, SHAPES)
    wanted = torch.zeros(every.rows + 1, dtype=torch.bool)
    wanted[[5, 40, 130]] = True
    for tiles in (every, every.writing(wanted), every.writing(~torch.ones_like(wanted))):
        locations = torch.arange(every.rows + 1)
        found = tiles.order[tiles.places]
        written = torch.isin(locations, tiles.writes)
        assert (found[written] == locations[written]).all()
        assert (found[~written] == every.rows).all()
        assert (tiles.order[tiles.outside] == every.rows).all()
        assert len(tiles.outside) == len(tiles.order) - written[:-1].sum()


def test_around_is_a_location_and_its_neighbours_on_its_own_map() -> None:
    tiles = tiles_of(2, SHAPES)
    for start, (height, width) in ((0, SHAPES[0]), (126, SHAPES[1]), (168, SHAPES[4])):
        for here in {0, width - 1, height * width - 1, width * (height // 2)}:
            wanted = torch.zeros(tiles.rows + 1, dtype=torch.bool)
            wanted[start + here] = True
            y, x = divmod(here, width)
            near = {
                start + j * width + i
                for j in range(max(0, y - 1), min(height, y + 2))
                for i in range(max(0, x - 1), min(width, x + 2))
            }
            assert set(tiles.around(wanted).nonzero().flatten().tolist()) == near


def test_every_location_is_written_once() -> None:
    tiles = tiles_of(2, SHAPES)
    inside = tiles.writes[tiles.writes < tiles.rows]
    assert inside.sort().values.tolist() == list(range(tiles.rows))


def test_a_table_made_for_inference_serves_training() -> None:
    tiles_of.cache_clear()
    with torch.inference_mode():
        tiles = tiles_of(1, ((4, 4),))
    rows = torch.randn(17, 2, requires_grad=True)
    rows.index_select(0, tiles.reads.flatten()).sum().backward()
    assert rows.grad is not None


@pytest.mark.parametrize(
    "module",
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
def test_what_it_does_not_compute_it_does_not_replace(module: nn.Module) -> None:
    assert not replaceable(module)
    assert replaceable(convolution())


def gradients_of(maps: list[Tensor], layers: list[nn.Conv2d], out: Tensor) -> list[Tensor]:
    parameters = [p for layer in layers for p in layer.parameters()]
    return list(torch.autograd.grad(out, [*maps, *parameters], retain_graph=True))


def in_double(maps: list[Tensor], layers: list[nn.Conv2d]) -> list[Tensor]:
    for layer in layers:
        layer.double()
    return [m.double().requires_grad_() for m in maps]


def assert_all_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("at_once", [4, 128])
@pytest.mark.parametrize("channels", [(24,), (24, 8), (16, 24, 8, 5)], ids=str)
def test_a_tower_and_its_gradients_are_those_of_its_convolutions(
    maps: list[Tensor],
    channels: tuple[int, ...],
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model.cpu.tiles.TILES_AT_ONCE", at_once)
    layers = tower(*channels)
    maps = in_double(maps, layers)
    rows, tiles = as_rows(maps)
    found = trainable_tower(rows, [tiles] * (len(layers) + 1), layers)[:-1]
    expected = of_convolutions(maps, layers)
    assert_all_close([found], [expected])
    assert_all_close(
        gradients_of(maps, layers, (found**2).sum()),
        gradients_of(maps, layers, (expected**2).sum()),
    )


@pytest.mark.parametrize("wanted", [[], [0], [5, 40, 130, 300, 449], range(450)], ids=str)
def test_where_only_some_outputs_are_wanted_they_and_all_gradients_are_exact(
    maps: list[Tensor], wanted: Sequence[int]
) -> None:
    layers = tower(16, 24, 5)
    maps = in_double(maps, layers)
    rows, tiles = as_rows(maps)
    mask = torch.zeros(len(rows), dtype=torch.bool)
    mask[list(wanted)] = True
    found = trainable_tower(rows, tiles.leading_to(mask, len(layers)), layers)
    expected = of_convolutions(maps, layers)
    rows_wanted = mask[:-1].nonzero().flatten()
    assert_all_close([found[rows_wanted]], [expected[rows_wanted]])
    assert_all_close(
        gradients_of(maps, layers, (found[rows_wanted] ** 2).sum()),
        gradients_of(maps, layers, (expected[rows_wanted] ** 2).sum()),
    )


def test_each_layer_before_needs_a_location_more(maps: list[Tensor]) -> None:
    tiles = as_rows(maps)[1]
    mask = torch.zeros(tiles.rows + 1, dtype=torch.bool)
    mask[[7, -1]] = True

    def written(needed: Tiles) -> set[int]:
        return set(needed.writes.flatten().tolist()) - {tiles.rows}

    first, second, last = (written(needed) for needed in tiles.leading_to(mask, 2))
    assert 7 in last and last <= second <= first
    assert mask.nonzero().flatten().tolist() == [7, tiles.rows], "the mask stays as it was"
    mask[-1] = False
    assert tiles.around(mask).nonzero().flatten().tolist() == [6, 7, 8, 20, 21, 22]
    assert {6, 7, 8, 20, 21, 22} <= second


@pytest.mark.parametrize(
    "needing",
    [("rows",), ("0.weight", "1.bias"), ("1.weight",), ("rows", "0.bias", "1.weight"), ("1.bias",)],
    ids=" ".join,
)
def test_only_the_gradients_asked_for_are_computed(
    maps: list[Tensor], needing: tuple[str, ...]
) -> None:
    layers = nn.ModuleList(tower(24, 8)).double()
    rows, tiles = as_rows([m.double() for m in maps])
    tensors = {"rows": rows.requires_grad_(), **dict(layers.named_parameters())}
    full = trainable_tower(rows, [tiles] * 3, list(layers)).pow(2).sum()
    expected = dict(zip(tensors, torch.autograd.grad(full, list(tensors.values())), strict=True))
    for name, tensor in tensors.items():
        tensor.requires_grad_(name in needing)
    trainable_tower(rows, [tiles] * 3, list(layers)).pow(2).sum().backward()
    for name, tensor in tensors.items():
        assert (tensor.grad is not None) == (name in needing)
        if tensor.grad is not None:
            torch.testing.assert_close(tensor.grad, expected[name], rtol=1e-9, atol=1e-9)


def test_a_gradient_of_the_zeros_behind_the_locations_changes_nothing(maps: list[Tensor]) -> None:
    layers = tower(24, 8)
    maps = in_double(maps, layers)
    rows, tiles = as_rows(maps)
    out = trainable_tower(rows, [tiles] * 3, layers)
    assert_all_close(
        gradients_of(maps, layers, out.sum()), gradients_of(maps, layers, out[:-1].sum())
    )


@pytest.mark.parametrize("autocast", [True, False])
def test_the_trainable_convolution_of_a_map_is_a_convolution(autocast: bool) -> None:
    plain = convolution()
    # Exact in float64; bfloat16 is left to what it inherits from.
    dtype = torch.float32 if autocast else torch.float64
    ours = TrainableWinogradConv2d.sharing(copy.deepcopy(plain))
    for module in (plain, ours):
        module.to(dtype)
    x = torch.randn(2, 16, 13, 17, dtype=dtype)
    results = []
    for module in (ours, plain):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = module(x)
        (out.to(dtype) ** 2).sum().backward()
        results.append((out, module.weight.grad, module.bias.grad))
    assert results[0][0].dtype == (torch.bfloat16 if autocast else dtype)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
