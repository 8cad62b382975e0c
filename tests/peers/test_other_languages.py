"""Clients in other languages, each a small program, do the same round with three real nodes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.peers.mail_cluster import PASSWORD, MailCluster
from tests.peers.rounds import EXPECTED, MESSAGES

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
FETCH_S = 400
RUN_S = 120


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailCluster]:
    with MailCluster(tmp_path_factory.mktemp("languages") / "c") as cluster:
        cluster.add_users(*(f"{name}@example.org" for name in ("node", "go1", "go2", "java")))
        yield cluster


def source(name: str, folder: Path, *programs: str) -> Path:
    """A copy of a program's folder, to build in."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    return Path(shutil.copytree(HERE / name, folder / "build"))


def fetched(command: Sequence[str], folder: Path) -> None:
    """Get what a program needs; skip the test where that is not to be had."""
    try:
        done = ran(command, folder, FETCH_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} got no packages within {FETCH_S} s")
    if done.returncode:
        pytest.skip(f"{command[0]} got no packages: {(done.stdout + done.stderr)[-300:]}")


def ran(
    command: Sequence[str], folder: Path, patience_s: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=patience_s,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "MAVEN_OPTS": "-Xmx512m"},
    )


def built(command: Sequence[str], folder: Path) -> None:
    done = ran(command, folder, FETCH_S)
    assert done.returncode == 0, done.stdout + done.stderr


def told(command: Sequence[str], folder: Path) -> Any:
    done = ran(command, folder, RUN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def plan(cluster: MailCluster, name: str) -> str:
    """What a program is given."""
    return json.dumps(
        {
            "ports": list(cluster.imap.values()),
            "user": f"{name}@example.org",
            "password": PASSWORD,
            "ca": str(cluster.made.ca),
            "messages": [one.decode() for one in MESSAGES],
        }
    )


def test_imapflow_reads_and_writes_its_mail(cluster: MailCluster, tmp_path: Path) -> None:
    folder = source("node", tmp_path, "node", "npm")
    fetched(["npm", "install", "--no-audit", "--no-fund", "--prefer-offline"], folder)
    assert told(["node", "round.js", plan(cluster, "node")], folder) == EXPECTED


@pytest.mark.parametrize("version", ["1", "2"])
def test_go_imap_reads_and_writes_its_mail(
    cluster: MailCluster, tmp_path: Path, version: str
) -> None:
    folder = source(f"go/v{version}", tmp_path, "go")
    fetched(["go", "mod", "tidy"], folder)
    built(["go", "build", "-o", "round", "."], folder)
    assert told(["./round", plan(cluster, f"go{version}")], folder) == EXPECTED


def test_angus_mail_reads_and_writes_its_mail(cluster: MailCluster, tmp_path: Path) -> None:
    folder = source("java", tmp_path, "java", "mvn")
    fetched(["mvn", "-q", "-B", "dependency:copy-dependencies"], folder)
    built(["mvn", "-q", "-B", "compile"], folder)
    files = []
    for number, one in enumerate(MESSAGES):
        files.append(folder / f"{number}.eml")
        files[-1].write_bytes(one)
    ports = [str(port) for port in cluster.imap.values()]
    command = ["java", "-cp", "target/classes:target/dependency/*", "Round", *ports]
    command += ["java@example.org", PASSWORD, *map(str, files)]
    assert told(command, folder) == EXPECTED
