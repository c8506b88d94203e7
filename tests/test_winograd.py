"""Winograd's convolution is a convolution, whatever the maps' shapes and the tiles asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from model.winograd import (
    WinogradConv,
    WinogradConv2d,
    as_rows,
    replaceable,
    tiles_of,
    trainable_convolution,
)

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


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_it_equals_the_convolution_on_maps_of_any_shape(
    maps: list[Tensor], relu: bool, bias: bool
) -> None:
    plain = convolution(bias=bias)
    found = WinogradConv(plain, relu=relu)(*as_rows(maps))
    expected = rows_of([plain(m).relu() if relu else plain(m) for m in maps])
    torch.testing.assert_close(found[:-1], expected, rtol=1e-5, atol=1e-5)
    assert (found[-1] == 0).all()


@torch.no_grad()
def test_more_tiles_than_fit_at_once_are_all_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.winograd.TILES_AT_ONCE", 4)
    x, plain = torch.randn(2, 16, 13, 17), convolution()
    torch.testing.assert_close(WinogradConv2d(plain)(x), plain(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_only_the_tiles_asked_for_are_computed_and_they_are_right(maps: list[Tensor]) -> None:
    plain = convolution()
    rows, tiles = as_rows(maps)
    wanted = torch.zeros(len(rows), dtype=torch.bool)
    wanted[[5, 40, 130, 300]] = True
    some = tiles.writing(wanted)
    assert 0 < some.reads.shape[1] <= 4 < tiles.reads.shape[1]
    found, every = WinogradConv(plain)(rows, some), WinogradConv(plain)(rows, tiles)
    torch.testing.assert_close(found[wanted], every[wanted])
    untouched = torch.ones(len(rows), dtype=torch.bool)
    untouched[some.writes.flatten()] = False
    assert untouched.any() and (found[untouched] == 0).all()


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


@pytest.mark.parametrize("bias", [True, False])
def test_its_gradients_are_those_of_the_convolution(maps: list[Tensor], bias: bool) -> None:
    maps = [m.double() for m in maps]
    plain = convolution(bias=bias).double()
    gradients = []
    for winograd in (True, False):
        plain.zero_grad()
        given = [m.clone().requires_grad_() for m in maps]
        if winograd:
            out = trainable_convolution(*as_rows(given), plain)[:-1]
        else:
            out = rows_of([plain(m) for m in given])
        (out.relu() ** 2).sum().backward()
        gradients.append([*(m.grad for m in given), *(p.grad for p in plain.parameters())])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_only_the_gradients_asked_for_are_computed(maps: list[Tensor]) -> None:
    plain = convolution()
    plain.weight.requires_grad_(False)
    given = [m.clone().requires_grad_() for m in maps]
    trainable_convolution(*as_rows(given), plain).sum().backward()
    assert given[0].grad is not None and plain.weight.grad is None and plain.bias.grad is not None
