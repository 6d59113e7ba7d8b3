"""Draws the rooms of the package from the imports of its modules, as docs/architecture.svg.

python docs/architecture.py

A room is a folder or a module at the top of keras_elu. Its floor is one above the highest room that
it imports. An arrow that follows from others is left out.
"""

import ast
import functools
import html
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = "keras_elu"
PICTURE = ROOT / "docs" / "architecture.svg"
WIDTH, HEIGHT = 112, 34  # pixels of a room
ACROSS, UP = 28, 84  # pixels between rooms, and between floors
MARGIN = 16
COLOURS = ("#00798c", "#d1495b", "#b07d12", "#5b4b8a", "#3a7d44", "#8a4b2a", "#44546a")


def imports(root: pathlib.Path = ROOT) -> dict[str, set[str]]:
    """Returns for every room the other rooms that its modules import."""
    files = [path.relative_to(root / PACKAGE) for path in (root / PACKAGE).rglob("*.py")]
    rooms = {path.with_suffix("").parts[0] for path in files} - {"__init__"}
    found = {room: set() for room in sorted(rooms)}
    for path in files:
        room = path.with_suffix("").parts[0]
        if room in rooms:
            tree = ast.parse((root / PACKAGE / path).read_text(encoding="utf-8"))
            found[room] |= {other for other in _imported(tree) if other in rooms - {room}}
    return found


def _imported(tree: ast.AST):
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == PACKAGE:
                yield rest.partition(".")[0]


def floors(below: dict[str, set[str]]) -> dict[str, int]:
    """Returns the floor of every room: one above the highest that it imports, or 0.

    Raises:
        RecursionError: If rooms import each other in a circle.
    """

    @functools.cache
    def floor(room):
        return 1 + max(map(floor, below[room]), default=-1)

    return {room: floor(room) for room in below}


def reduced(below: dict[str, set[str]]) -> dict[str, set[str]]:
    """Returns the imports without those that follow from others."""

    @functools.cache
    def reached(room):
        return frozenset(below[room]).union(*map(reached, below[room]))

    return {
        room: {other for other in others if not any(other in reached(x) for x in others)}
        for room, others in below.items()
    }


def draw(below: dict[str, set[str]]) -> str:
    """Returns the picture as the text of an SVG file."""
    arrows = reduced(below)
    places, wide = _places(arrows, floors(below))
    high = max(y for _, y in places.values()) + HEIGHT + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" '
        f'width="{wide}" height="{high}" font-family="sans-serif" font-size="13">',
        f'<rect width="{wide}" height="{high}" fill="#ffffff"/>',
    ]
    lines += [
        f'<marker id="{colour[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
        for colour in COLOURS
    ]
    for number, (room, (x, y)) in enumerate(places.items()):
        colour = COLOURS[number % len(COLOURS)]
        for other in sorted(arrows[room], key=lambda other: places[other]):
            to_x, to_y = places[other]
            left, right = x + WIDTH // 2, to_x + WIDTH // 2
            top, bottom = y + HEIGHT, to_y - 1
            middle = (top + bottom) // 2
            lines.append(
                f'<path d="M{left} {top}C{left} {middle} {right} {middle} {right} {bottom}" '
                f'fill="none" stroke="{colour}" stroke-width="1.3" '
                f'marker-end="url(#{colour[1:]})"/>'
            )
    for room, (x, y) in places.items():
        lines.append(
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="#eef4f6" '
            f'stroke="#44546a"/><text x="{x + WIDTH // 2}" y="{y + HEIGHT // 2 + 5}" '
            f'text-anchor="middle" fill="#12343b">{html.escape(room)}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _places(arrows, floor) -> tuple[dict[str, tuple[int, int]], int]:
    """Returns the upper left corner of every room, the highest floor first, and the width.

    Rooms of a floor are ordered by the mean place of the rooms that they share arrows with, so that
    arrows are short.
    """
    near = {room: set(others) for room, others in arrows.items()}
    for room, others in arrows.items():
        for other in others:
            near[other].add(room)
    rows = [
        sorted(room for room in floor if floor[room] == n) for n in range(max(floor.values()) + 1)
    ]
    step = WIDTH + ACROSS
    wide = 2 * MARGIN + max(map(len, rows)) * step - ACROSS
    at = {}
    for _ in range(12):
        for row in rows:
            left = (wide - len(row) * step + ACROSS) // 2
            at |= {room: left + place * step for place, room in enumerate(row)}
        for row in rows:
            row.sort(key=lambda r: (sum(at[n] for n in near[r]) / max(1, len(near[r])), r))
    top = reversed(list(enumerate(reversed(rows))))
    return {
        room: (at[room], MARGIN + level * (HEIGHT + UP))
        for level, row in sorted(top)
        for room in row
    }, wide


if __name__ == "__main__":
    PICTURE.write_text(draw(imports()), encoding="utf-8")
