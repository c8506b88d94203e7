"""How hard a drawn scene is, and the two presets: the demo's and one near to photographs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SceneStyle:
    """How hard a drawn scene is. Angles in degrees, lengths in shares of the image's short side.

    sizes: (width, height) in pixels, one is drawn. cards: how often 1, 2, … cards are
    laid, relative to each other. card_width: a card's
    short side. rotation: largest turn from upright or upside down; any_rotation: share of scenes
    whose cards are turned at will. tilt: largest angle between the camera's axis and the table's
    normal. max_hidden: share of a card that others may hide, at most 0.55; overlapping: share of
    scenes in which a card is laid on its neighbour. outside: largest share of a card beyond the
    image. things, covers: most things lying about, and over the cards. blur: largest radius,
    noise: largest standard deviation (0..255), both in pixels of a 384 px picture. light: strength
    of shadows, gradients and colour casts, 0..1. decks: how many different decks there are.
    grounds, seam: as in ``card_grounds.ground``. jpeg_quality: lowest and highest.
    """

    name: str
    sizes: tuple[tuple[int, int], ...]
    cards: tuple[float, ...]
    card_width: tuple[float, float]
    rotation: float
    any_rotation: float
    tilt: float
    max_hidden: float
    overlapping: float
    outside: float
    things: int
    covers: int
    blur: float
    noise: float
    light: float
    decks: int
    grounds: dict[str, float] = field(hash=False)
    seam: float = 0.0
    jpeg_quality: tuple[int, int] = (70, 92)


DEMO = SceneStyle(
    name="demo",
    sizes=((384, 288),),
    cards=(2, 2, 1),
    card_width=(0.33, 0.43),
    rotation=25,
    any_rotation=0.0,
    tilt=12,
    max_hidden=0.12,
    overlapping=0.1,
    outside=0.1,
    things=2,
    covers=0,
    blur=0.6,
    noise=6,
    light=0.5,
    decks=6,
    grounds={"wood": 3, "carpet": 2, "cloth": 2, "felt": 2, "plain": 2, "tiles": 1},
)
REALISTIC = SceneStyle(
    name="realistic",
    sizes=((378, 504), (378, 504), (378, 504), (504, 378), (512, 288)),
    cards=(5, 2.5, 2, 2, 1),
    card_width=(0.16, 0.50),
    rotation=20,
    any_rotation=0.5,
    tilt=50,
    max_hidden=0.55,
    overlapping=0.45,
    outside=0.4,
    things=4,
    covers=1,
    blur=1.1,
    noise=8,
    light=1.0,
    decks=24,
    grounds={
        "wood": 4,
        "carpet": 3,
        "cloth": 3,
        "stripes": 1.5,
        "tiles": 1.5,
        "plain": 2,
        "felt": 1,
        "print": 1.5,
    },
    seam=0.35,
    jpeg_quality=(55, 92),
)
