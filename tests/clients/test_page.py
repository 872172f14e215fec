"""What docs/open-inference-protocol.md shows is so: its programs print what stands below them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import Server

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "open-inference-protocol.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_there_are_programs_for_both_transports_and_packages() -> None:
    imported = " ".join(re.findall(r"^(?:import|from) (\S+)", "".join(code for code, _ in PROGRAMS), re.MULTILINE))
    assert all(name in imported for name in ("tritonclient.http", "tritonclient.grpc", "kserve"))


@pytest.mark.parametrize(
    ("program", "shown"), PROGRAMS, ids=[re.findall(r"(tritonclient\.\w+|kserve)", code)[0] for code, _ in PROGRAMS]
)
def test_a_program_prints_what_is_shown(server: Server, program: str, shown: str) -> None:
    here = program.replace("localhost:3000", server.http).replace("localhost:8001", server.grpc)
    done = subprocess.run(
        [sys.executable, "-c", here], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == (shown, 0), done.stderr
