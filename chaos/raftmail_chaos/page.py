"""The report as one self-contained page: figures, and the run's timeline drawn as SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from math import log10

from raftmail_chaos.faults import Fault
from raftmail_chaos.report import ChaosReport, to_text
from raftmail_chaos.series import Bucket, Series, buckets

_Place = Callable[[float], float]

_WIDTH = 1100
_LEFT = 110
_RIGHT = 20
_PLOT = 120
_LANE = 18
_GAP = 34

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1140px; }
body { color: #1b2733; background: #fff; }
h1 { font-size: 1.3rem; } h1.good { color: #12724a; } h1.bad { color: #b3261e; }
pre { background: #f4f6f8; padding: 1rem; overflow-x: auto; white-space: pre-wrap; }
svg { width: 100%; height: auto; } text { font: 11px system-ui, sans-serif; fill: #4a5965; }
.axis { stroke: #cfd8df; } .writes { fill: #3b7dd8; } .p50 { stroke: #12724a; fill: none; }
.p99 { stroke: #d98014; fill: none; }
.master { fill: #12724a; } .up { fill: #cfe5d8; } .down { fill: #f0c4c0; }
.gap { fill: #b3261e; opacity: .13; } .fault { fill: #b3261e; opacity: .65; }
.fault:hover { opacity: 1; }
"""


def render(report: ChaosReport, series: Series, faults: Sequence[Fault]) -> str:
    """The page."""
    good = report.is_good
    title = "Every promise was kept" if good else "A promise was broken, or nobody can tell"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>raftmail chaos</title>"
        f"<style>{_STYLE}</style><h1 class={'good' if good else 'bad'}>{title}</h1>"
        f"{_svg(report, series, faults)}<pre>{escape(to_text(report))}</pre></html>\n"
    )


def _svg(report: ChaosReport, series: Series, faults: Sequence[Fault]) -> str:
    end = series.ended or series.began + 1.0
    span = max(end - series.began, 1.0)
    scale = (_WIDTH - _LEFT - _RIGHT) / span

    def x(at: float) -> float:
        return _LEFT + (min(max(at, series.began), end) - series.began) * scale

    width, stretches = buckets(series)
    seen = set().union(*[look.up for look in series.looks])
    nodes = sorted({f"n{at}" for at in range(1, report.nodes + 1)} | seen)
    kinds = list(dict.fromkeys(fault.kind for fault in faults))
    parts: list[str] = []
    top = _GAP
    plots_end = top + 2 * _PLOT + _GAP
    parts += [
        f'<rect class=gap x="{x(a):.1f}" y="{top}" width="{x(b) - x(a):.1f}" '
        f'height="{plots_end - top}">'
        f"<title>{b - a:.2f} s without progress</title></rect>"
        for a, b in series.gaps(end)
    ]
    parts += _throughput(stretches, width, x(series.began + width) - _LEFT, x, top)
    top += _PLOT + _GAP
    parts += _latency(stretches, x, top)
    top += _PLOT + _GAP
    parts.append(f'<text x="{_LEFT}" y="{top - 8}">nodes: leads the mail, up, down</text>')
    for name in nodes:
        parts.append(f'<text x="{_LEFT - 8}" y="{top + 12}" text-anchor=end>{name}</text>')
        parts += _node_lane(series, name, end, x, top)
        top += _LANE
    top += _GAP
    parts.append(f'<text x="{_LEFT}" y="{top - 8}">faults in force</text>')
    for kind in kinds:
        parts.append(f'<text x="{_LEFT - 8}" y="{top + 12}" text-anchor=end>{escape(kind)}</text>')
        for fault in faults:
            if fault.kind == kind:
                begun, over = x(fault.began), x(fault.ended or end)
                parts.append(
                    f'<rect class=fault x="{begun:.1f}" y="{top + 2}" '
                    f'width="{max(over - begun, 1.5):.1f}" '
                    f'height="{_LANE - 4}"><title>{fault.began - series.began:.1f} s '
                    f"{escape(str(fault))}</title></rect>"
                )
        top += _LANE
    for tick in _ticks(span):
        at = x(series.began + tick)
        parts.append(f'<line class=axis x1="{at:.1f}" x2="{at:.1f}" y1="{_GAP}" y2="{top}"/>')
        parts.append(f'<text x="{at:.1f}" y="{top + 14}" text-anchor=middle>{tick:g} s</text>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {top + 24}" role=img '
        f"aria-label=timeline>{''.join(parts)}</svg>"
    )


def _throughput(
    stretches: Sequence[Bucket], width_s: float, width: float, x: _Place, top: int
) -> Iterator[str]:
    most = max([b.writes / width_s for b in stretches], default=0.0) or 1.0
    yield f'<text x="{_LEFT}" y="{top - 8}">acknowledged writes a second (most: {most:.0f})</text>'
    yield _frame(top)
    for b in stretches:
        height = b.writes / width_s / most * _PLOT
        if height:
            yield (
                f'<rect class=writes x="{x(b.at):.1f}" y="{top + _PLOT - height:.1f}" '
                f'width="{max(width - 0.3, 0.5):.1f}" height="{height:.1f}"/>'
            )


def _latency(stretches: Sequence[Bucket], x: _Place, top: int) -> Iterator[str]:
    yield (
        f'<text x="{_LEFT}" y="{top - 8}">latency of writes: p50, p99 (logarithmic, 1 ms to 100 '
        f"s)</text>"
    )
    yield _frame(top)
    for value in (1, 10, 100, 1000, 10_000):
        at = top + _height(value)
        yield f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor=end>{value:g} ms</text>'
    for name in ("p50", "p99"):
        points = [
            f"{x(b.at):.1f},{top + _height(b.p50_ms if name == 'p50' else b.p99_ms):.1f}"
            for b in stretches
            if b.writes
        ]
        yield f'<polyline class={name} points="{" ".join(points)}"/>'


def _height(ms: float) -> float:
    return _PLOT - min(max(log10(max(ms, 1.0)) / 5, 0.0), 1.0) * _PLOT


def _node_lane(series: Series, name: str, end: float, x: _Place, top: int) -> Iterator[str]:
    runs: list[tuple[float, str]] = []
    for look in series.looks:
        state = "master" if look.master == name else "up" if name in look.up else "down"
        if not runs or runs[-1][1] != state:
            runs.append((look.at, state))
    for (begun, state), (over, _) in zip(runs, [*runs[1:], (end, "")], strict=True):
        yield (
            f'<rect class={state} x="{x(begun):.1f}" y="{top + 2}" '
            f'width="{max(x(over) - x(begun), 0.5):.1f}" '
            f'height="{_LANE - 4}"/>'
        )


def _frame(top: int) -> str:
    return (
        f'<line class=axis x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{top + _PLOT}" '
        f'y2="{top + _PLOT}"/>'
    )


def _ticks(span: float) -> list[float]:
    step = next((s for s in (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800) if span / s <= 12), 3600)
    return [float(tick) for tick in range(0, int(span) + 1, step)]
