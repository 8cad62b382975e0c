"""Gaps, waits and the report that shows them."""

from __future__ import annotations

import json

from raftmail_chaos.faults import Fault
from raftmail_chaos.judge import HistoryVerdict, RuleFinding
from raftmail_chaos.page import render
from raftmail_chaos.report import ChaosReport, figures_of, to_json, to_text
from raftmail_chaos.series import ClusterLook, Series, after, apart_from, buckets, percentile


def _series() -> Series:
    writes = [(100.0 + at / 10, 5.0) for at in range(50) if not 20 <= at < 40]
    looks = [
        ClusterLook(100.0, "n1", frozenset({"n1", "n2"})),
        ClusterLook(102.0, None, frozenset({"n2"})),
    ]
    return Series(100.0, 50.0, 106.0, writes, looks, asked=50)


def _report(findings: tuple[RuleFinding, ...] = ()) -> ChaosReport:
    faults = [Fault(1, "kill-master", "n1", "SIGKILL", 102.0, 103.0)]
    figures = figures_of(_series(), faults, HistoryVerdict(list(findings)), 30, 106.0)
    return ChaosReport(("kill-masters",), 3, 50.0, 7, "/x", "direct links", figures, findings)


def test_a_gap_is_where_nothing_was_acknowledged_and_the_end_counts() -> None:
    gaps = [(round(a, 3), round(b, 3)) for a, b in _series().gaps(200.0)]
    assert gaps == [(101.9, 104.0), (104.9, 106.0)]


def test_a_thin_load_has_no_gaps_only_because_it_is_thin() -> None:
    thin = Series(100.0, 4.0, 103.0, [(101.0, 1.0), (102.5, 1.0)])
    assert thin.gaps(103.0) == []


def test_what_a_load_process_tells_is_added_up() -> None:
    series = Series(0.0, 10.0)
    told = {"asked": 3, "answered": 2, "messages": 1, "lost": 1, "nothing": 0, "left_out": 0}
    for worker in (0, 1):
        series.add(worker, told | {"outstanding": 4, "writes": [[1.5, 20.0]]})
    assert (series.asked, series.lost, series.outstanding) == (6, 2, {0: 4, 1: 4})
    assert series.writes == [(1.5, 20.0), (1.5, 20.0)]


def test_waits_are_until_the_next_write_after_each_moment() -> None:
    assert after([1.0, 2.0, 5.0], [0.5, 2.0, 6.0]) == [0.5, 3.0]


def test_a_percentile_of_nothing_is_0() -> None:
    assert percentile([], 0.99) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_the_buckets_hold_every_write() -> None:
    series = _series()
    assert sum(bucket.writes for bucket in buckets(series)[1]) == len(series.writes)


def test_the_figures_tell_kills_gaps_and_what_each_broken_rule_means() -> None:
    found = tuple(RuleFinding(rule, "u", "t") for rule in ("SAVE", "once", "UID", "UIDVALIDITY"))
    figures = _report(found).figures
    assert (figures.lost, figures.duplicated, figures.uids_changed) == (1, 1, 2)
    assert (figures.kills, figures.gaps, figures.after_kill_longest_s) == (1, 2, 2.0)


def test_a_finding_makes_a_report_bad_in_text_and_json() -> None:
    good, bad = _report(), _report((RuleFinding("SAVE", "u", "gone"),))
    assert json.loads(to_json(good))["good"] and not json.loads(to_json(bad))["good"]
    assert "Every promise was kept" in to_text(good)
    assert "BROKEN SAVE (u): gone" in to_text(bad)


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows() -> None:
    page = render(_report((RuleFinding("SAVE", "u", "<script>"),)), _series(), [])
    assert page.count("<svg") == 1
    assert "http" not in page and "<script>" not in page


def test_gaps_in_which_the_machine_stood_still_are_kept_apart() -> None:
    assert apart_from([(1.0, 2.0), (3.0, 9.0)], [(4.0, 8.0)]) == [(1.0, 2.0)]
    series = _series()
    series.stalls.append((102.0, 103.9))
    figures = figures_of(series, [], HistoryVerdict(), 30, 106.0)
    assert (figures.gap_longest_s, figures.gap_longest_running_s) == (2.1, 1.1)
    report = ChaosReport(("pause",), 3, 50.0, 7, "/x", "direct links", figures)
    assert "THE MACHINE OR ITS DISK STOOD STILL 1 times" in to_text(report)
    assert "STOOD STILL" not in to_text(_report())
