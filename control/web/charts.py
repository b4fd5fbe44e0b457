"""Figures as SVG geometry: pure, so that a chart needs neither a script nor a third party."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import pairwise

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 200, 48, 22, 8
Points = Sequence[tuple[float, float]]
"""(unix time, value), times rising."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle; `series` is its colour."""

    x: float
    y: float
    width: float
    height: float
    series: int
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One polyline as an SVG path."""

    path: str
    series: int


@dataclass(frozen=True, slots=True)
class Row:
    """One series in the table view."""

    name: str
    last: str
    highest: str
    mean: str


@dataclass(frozen=True, slots=True)
class Figure:
    """What `chart` in _parts.html draws, with its table."""

    title: str
    names: tuple[str, ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    colours: tuple[int, ...] = tuple(range(8)) * 4
    """Colour of each name, by its number in the style sheet."""
    rows: tuple[Row, ...] = ()
    unit: str = ""
    summary: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    floor: int = field(default=HEIGHT - BOTTOM)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.bars and not self.lines


def compact(value: float) -> str:
    """A number short enough for an axis: 0.25, 12, 1.5k, 3M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def ceiling(highest: float) -> float:
    """The next round number above: 1, 2, 2.5 or 5 times a power of ten; 1 for nothing."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= highest * 0.9999)


def stacked(
    title: str, days: Sequence[date], series: Mapping[str, Sequence[float]], colours: tuple[int, ...] = tuple(range(8))
) -> Figure:
    """A column per day, each series stacked on the one before it."""
    top = ceiling(max((sum(values) for values in zip(*series.values(), strict=True)), default=0))
    step = (WIDTH - LEFT) / max(1, len(days))
    bars = []
    for column, day in enumerate(days):
        y = float(HEIGHT - BOTTOM)
        for index, (name, values) in enumerate(series.items()):
            height = values[column] / top * (HEIGHT - BOTTOM - TOP)
            if height > 0:
                y -= height
                text = f"{day:%-d %b}: {values[column]:.0f} {name.lower()}"
                x = round(LEFT + column * step + step * 0.15, 1)
                bars.append(Bar(x, round(y, 2), round(step * 0.7, 1), round(height, 2), colours[index], text))
    marks = tuple(
        Tick(round(LEFT + (i + 0.5) * step, 1), f"{day:%-d %b}")
        for i, day in enumerate(days)
        if (len(days) - 1 - i) % 3 == 0
    )
    totals = ", ".join(f"{sum(values):.0f} {name.lower()}" for name, values in series.items())
    return Figure(title, tuple(series), _y_ticks(top), marks, bars=tuple(bars), colours=colours, summary=totals)


def lines(
    title: str,
    series: Mapping[str, Points],
    span: tuple[float, float],
    *,
    unit: str = "",
    show: Callable[[float], str] = compact,
    colours: Mapping[str, int] | None = None,
) -> Figure:
    """One line a series between the times of `span`; `colours` for names that have one of their own on every page."""
    finite = {name: [p for p in points if math.isfinite(p[1])] for name, points in series.items()}
    finite = {name: points for name, points in finite.items() if points}
    top = ceiling(max((value for points in finite.values() for _, value in points), default=0))
    chosen = tuple((colours or {}).get(name, index % 8) for index, name in enumerate(finite))
    drawn = tuple(
        Line(_path(points, span, top), colour) for points, colour in zip(finite.values(), chosen, strict=True)
    )
    rows = tuple(_row(name, points, show) for name, points in finite.items())
    summary = "; ".join(f"{row.name} now {row.last}" for row in rows)
    return Figure(
        title,
        tuple(finite),
        _y_ticks(top, show),
        _times(span),
        lines=drawn,
        colours=chosen,
        rows=rows,
        unit=unit,
        summary=summary,
    )


def _row(name: str, points: Points, show: Callable[[float], str]) -> Row:
    values = [value for _, value in points]
    return Row(name, show(values[-1]), show(max(values)), show(sum(values) / len(values)))


def _path(points: Points, span: tuple[float, float], top: float) -> str:
    start, end = span
    wide = max(1e-9, end - start)
    tall = HEIGHT - BOTTOM - TOP
    commands = []
    gap = _usual_step(points) * 2.5
    for index, (at, value) in enumerate(points):
        torn = index == 0 or at - points[index - 1][0] > gap
        x = LEFT + (at - start) / wide * (WIDTH - LEFT)
        y = HEIGHT - BOTTOM - max(0.0, value) / top * tall
        commands.append(f"{'M' if torn else 'L'}{x:.1f} {y:.1f}")
    return "".join(commands)


def _usual_step(points: Points) -> float:
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(points)]
    return min(gaps) if gaps else math.inf


def _y_ticks(top: float, show: Callable[[float], str] = compact) -> tuple[Tick, ...]:
    tall = HEIGHT - BOTTOM - TOP
    return tuple(Tick(round(HEIGHT - BOTTOM - part * tall, 1), show(part * top)) for part in (0, 0.5, 1))


def _times(span: tuple[float, float]) -> tuple[Tick, ...]:
    start, end = span
    form = "%H:%M" if end - start <= 2 * 86400 else "%-d %b"
    ticks = []
    for part, anchor in ((0.0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1.0, "end")):
        at = datetime.fromtimestamp(start + part * (end - start), UTC)
        ticks.append(Tick(round(LEFT + part * (WIDTH - LEFT), 1), at.strftime(form), anchor))
    return tuple(ticks)
