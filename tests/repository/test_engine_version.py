"""The guards of raftmail/consensus were proved against one version of PySyncObj, and no other."""

from __future__ import annotations

from importlib.metadata import version

from tests.repository.test_packaging import setup_cfg

PROVED = "0.3.17"


def test_the_engine_installed_is_the_version_that_the_guards_were_proved_against() -> None:
    found = version("pysyncobj")
    assert found == PROVED, (
        f"pysyncobj {found} is installed, but the guards in raftmail/consensus reach into the "
        f"source of {PROVED} and were proved against it alone. Install that one again "
        f"(pip install pysyncobj=={PROVED}), or prove every guard against {found} first."
    )


def test_setup_cfg_pins_the_engine_exactly() -> None:
    required = setup_cfg()["options"]["install_requires"].split("\n")
    assert [line for line in required if "pysyncobj" in line] == [f"pysyncobj=={PROVED}"]
