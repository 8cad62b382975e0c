"""What a run shows while it goes on: a table that is drawn anew on a terminal, plain lines
elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raftmail_chaos.series import percentile

_LINES_EVERY_S = 5.0
_NEWS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Shown:
    """The run at one moment. Rates and latencies are of the last seconds."""

    elapsed_s: float
    of_s: float
    master: str | None
    nodes: dict[str, str]
    faults: list[str]
    asked_per_s: float
    writes: list[tuple[float, float]]
    writes_span_s: float
    messages: int
    outstanding: int
    lost: int
    gap_longest_s: float
    broken: list[str]

    @property
    def line(self) -> str:
        latencies = [ms for _, ms in self.writes]
        return (
            f"master {self.master or 'none'}, {len(self.writes) / self.writes_span_s:.0f} "
            f"writes/s, "
            f"p50 {percentile(latencies, 0.5):.0f} ms, p99 {percentile(latencies, 0.99):.0f} ms, "
            f"{self.messages} messages, {self.outstanding} under way, longest gap "
            f"{self.gap_longest_s:.1f} s, "
            f"{self.verdict}"
        )

    @property
    def verdict(self) -> str:
        return f"{len(self.broken)} BROKEN" if self.broken else "nothing broken so far"


class RunView(Protocol):
    """Shows a run."""

    def say(self, text: str) -> None: ...

    def show(self, shown: Shown) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Silent:
    """Shows nothing: the result alone is wanted."""

    def say(self, text: str) -> None:
        return

    def show(self, shown: Shown) -> None:
        return

    def close(self) -> None:
        return


@dataclass(slots=True)
class Lines:
    """For logs."""

    console: Console
    began: float = field(default_factory=time.monotonic)
    _last: float = 0.0

    def say(self, text: str) -> None:
        self.console.print(
            f"{time.monotonic() - self.began:7.1f} s  {text}", markup=False, highlight=False
        )

    def show(self, shown: Shown) -> None:
        now = time.monotonic()
        if now - self._last >= _LINES_EVERY_S:
            self._last = now
            self.say(shown.line)

    def close(self) -> None:
        return


class Screen:
    """For people."""

    def __init__(self, console: Console) -> None:
        self._began = time.monotonic()
        self._news: list[str] = []
        self._shown: Shown | None = None
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def say(self, text: str) -> None:
        self._news.append(f"{time.monotonic() - self._began:7.1f} s  {text}")
        del self._news[:-_NEWS_SHOWN]
        self._draw()

    def show(self, shown: Shown) -> None:
        self._shown = shown
        self._draw()

    def close(self) -> None:
        self._live.stop()

    def _draw(self) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column()
        shown = self._shown
        if shown is not None:
            latencies = [ms for _, ms in shown.writes]
            table.add_row("time", f"{shown.elapsed_s:.0f} of {shown.of_s:.0f} s")
            nodes = Text()
            for name, state in shown.nodes.items():
                style = {"master": "bold green", "up": "green"}.get(state, "red")
                nodes.append(f"{name} {state}   ", style)
            table.add_row("nodes", nodes)
            table.add_row("faults in force", Text("\n".join(shown.faults) or "none"))
            table.add_row(
                "writes",
                f"{len(shown.writes) / shown.writes_span_s:.0f}/s   p50 "
                f"{percentile(latencies, 0.5):.0f} ms   "
                f"p99 {percentile(latencies, 0.99):.0f} ms",
            )
            table.add_row(
                "load",
                f"{shown.asked_per_s:.0f} asked/s   {shown.messages} messages acknowledged   "
                f"{shown.outstanding} under way   {shown.lost} with unknown outcome",
            )
            table.add_row("longest gap", f"{shown.gap_longest_s:.2f} s")
            table.add_row(
                "verdict so far", Text(shown.verdict, "bold red" if shown.broken else "green")
            )
            for text in shown.broken[-3:]:
                table.add_row("", Text(text, "red"))
        table.add_row("", Text("\n".join(self._news), "dim"))
        self._live.update(table, refresh=True)
