"""The audit, with a real HTTP server in place of OSV: what it finds, and how it fails."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from container import audit, osv
from loadtest.processes import free_port
from tests.support import ROOT
from tests.support.osv import StandIn, stand_in

PURLS = [
    "pkg:pypi/pip@24.0",
    "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12&upstream=glibc%402.36-9%2Bdeb12u13",
    "pkg:deb/debian/libc-bin@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12&upstream=glibc%402.36-9%2Bdeb12u13",
    "pkg:deb/debian/bash@5.2.15-2%2Bb13?arch=amd64&distro=debian-12&upstream=bash%405.2.15-2",
]
LATER, BEFORE = date.today() + timedelta(days=30), date.today() - timedelta(days=1)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Yield the stand-in for OSV that the audit asks."""
    with stand_in() as service:
        monkeypatch.setenv("OSV_URL", service.url)
        yield service


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text('# A comment.\n\nPillow==12.3.0\nredis[hiredis]==8.1.0\nuvloop==0.23.0 ; sys_platform != "win32"\n')
    return file


@pytest.fixture
def bill(tmp_path: Path) -> Path:
    return write_bill(tmp_path, PURLS)


def write_bill(folder: Path, purls: list[str]) -> Path:
    file = folder / "sbom.cdx.json"
    components: list[dict[str, Any]] = [{"type": "machine-learning-model", "name": "image"}]
    file.write_text(json.dumps({"components": [*components, *({"purl": purl} for purl in purls)]}))
    return file


def test_nothing_known_passes_and_everything_was_asked_about(
    service: StandIn, requirements: Path, bill: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(requirements, bill) == 0
    assert capsys.readouterr().out == ("0 known vulnerabilities in 3 Python packages and 2 source packages of Debian\n")
    asked = [(query["package"]["ecosystem"], query["package"]["name"], query["version"]) for query in service.asked]
    assert sorted(asked) == [
        ("Debian:12", "bash", "5.2.15-2"),
        ("Debian:12", "glibc", "2.36-9+deb12u13"),
        ("PyPI", "pillow", "12.3.0"),
        ("PyPI", "redis", "8.1.0"),
        ("PyPI", "uvloop", "0.23.0"),
    ]


@pytest.mark.parametrize(
    ("ecosystem", "package", "fixed", "line"),
    [
        ("PyPI", "pillow", ["12.4.0"], "PyPI pillow 12.3.0: X-1, CVE-0-1, fixed in 12.4.0"),
        ("PyPI", "pillow", [], "PyPI pillow 12.3.0: X-1, CVE-0-1, fixed in no version"),
        ("Debian:12", "bash", ["5.2.15-3"], "Debian:12 bash 5.2.15-2: X-1, CVE-0-1, fixed in 5.2.15-3"),
    ],
    ids=["python", "python-unfixed", "debian"],
)
def test_a_known_vulnerability_fails_and_is_named(
    service: StandIn,
    requirements: Path,
    bill: Path,
    capsys: pytest.CaptureFixture[str],
    ecosystem: str,
    package: str,
    fixed: list[str],
    line: str,
) -> None:
    service.know("X-1", ecosystem, package, *fixed, aliases=["CVE-0-1"])
    assert audit.main(requirements, bill) == 1
    assert line in capsys.readouterr().out.splitlines()


def test_what_debian_has_not_fixed_is_named_and_passes(
    service: StandIn, requirements: Path, bill: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.know("X-1", "Debian:12", "bash")
    assert audit.main(requirements, bill) == 0
    assert "Debian:12 bash 5.2.15-2: X-1, not fixed by Debian yet" in capsys.readouterr().out.splitlines()


def test_a_record_that_does_not_tell_what_is_fixed_fails(service: StandIn, requirements: Path, bill: Path) -> None:
    service.know("X-1", "Debian:12", "bash")
    service.records["X-1"]["affected"] = []
    assert audit.main(requirements, bill) == 1


def test_vulnerabilities_on_a_later_page_are_found(service: StandIn, requirements: Path, bill: Path) -> None:
    service.page = 1
    for name in ("X-1", "X-2"):
        service.know(name, "Debian:12", "glibc")
    service.know("X-3", "Debian:12", "glibc", "2.36-10")
    assert audit.main(requirements, bill) == 1
    assert [query["page_token"] for query in service.asked if "page_token" in query] == ["1", "2"]


def test_more_packages_than_a_request_may_have_are_asked_in_several(
    service: StandIn, requirements: Path, bill: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(osv, "BATCH", 2)
    service.know("X-1", "PyPI", "uvloop")
    assert audit.main(requirements, bill) == 1
    assert len(service.asked) == 5


@pytest.mark.parametrize(("until", "code"), [(LATER, 0), (date.today(), 0), (BEFORE, 1)])
def test_an_acceptance_has_a_reason_and_an_end(
    service: StandIn,
    requirements: Path,
    bill: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    until: date,
    code: int,
) -> None:
    accepted = tmp_path / "accepted.toml"
    accepted.write_text(f'[CVE-0-1]\nreason = "of no use here"\nuntil = {until}\n')
    monkeypatch.setattr(audit, "ACCEPTED", accepted)
    service.know("X-1", "PyPI", "pillow", aliases=["CVE-0-1"])
    assert audit.main(requirements, bill) == code
    assert (f"accepted until {until}: of no use here" in capsys.readouterr().out) is not bool(code)


def test_what_is_accepted_today_is_well_formed() -> None:
    assert isinstance(audit.acceptances(), dict)


RESPONSES = {
    "no-json": b"<html>",
    "another-form": b'{"code": 3, "message": "invalid"}',
    "no-list": b'{"results": {}}',
    "too-few": b'{"results": [{}]}',
    "no-id": b'{"results": [{"vulns": [{}]}, {}, {}, {}, {}]}',
    "null": b'{"results": [{"vulns": null}, {}, {}, {}, {}]}',
    "empty": b"",
    "endless": b'{"results": [{"next_page_token": "1"}]}',
}


@pytest.mark.parametrize("response", RESPONSES)
def test_an_invalid_response_fails(
    service: StandIn, requirements: Path, bill: Path, capsys: pytest.CaptureFixture[str], response: str
) -> None:
    service.body = RESPONSES[response]
    if response == "endless":
        requirements.write_text("")
        write_bill(bill.parent, PURLS[1:2])
    assert audit.main(requirements, bill) == 2
    assert capsys.readouterr().err.startswith(f"the audit failed: {service.url} ")


@pytest.mark.parametrize("status", [302, 400, 403, 404, 429, 500, 503])
def test_a_service_that_refuses_fails(
    service: StandIn, requirements: Path, bill: Path, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    service.status = status
    assert audit.main(requirements, bill) == 2
    assert f"{service.url} answers {status} to /v1/querybatch" in capsys.readouterr().err


def test_a_vulnerability_without_a_record_fails(service: StandIn, requirements: Path, bill: Path) -> None:
    service.vulnerabilities["PyPI", "pillow"] = ["X-1"]
    assert audit.main(requirements, bill) == 2


def test_a_service_that_does_not_answer_in_time_fails(
    service: StandIn,
    requirements: Path,
    bill: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(osv, "TIMEOUT_SECONDS", 0.2)
    service.silent = threading.Event()
    assert audit.main(requirements, bill) == 2
    service.silent.set()
    assert f"the audit failed: {service.url} is out of reach: " in capsys.readouterr().err


def test_a_service_out_of_reach_fails(
    requirements: Path, bill: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("OSV_URL", url)
    assert audit.main(requirements, bill) == 2
    assert capsys.readouterr().err.startswith(f"the audit failed: {url} is out of reach: ")


@pytest.mark.parametrize(
    "line", ["pillow", "pillow>=12", "pillow==12.*", "-r other.txt", "./local", "pillow @ https://x"]
)
def test_requirements_that_are_not_pinned_fail(
    service: StandIn, requirements: Path, bill: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    requirements.write_text(line + "\n")
    assert audit.main(requirements, bill) == 2
    assert f"{line} is not pinned" in capsys.readouterr().err


def test_what_serving_needs_is_read_whole() -> None:
    file = ROOT / "requirements" / "serving.txt"
    packages = audit.python_packages(file)
    assert len(packages) == len(re.findall(r"^[^#\s]", file.read_text(encoding="utf-8"), re.MULTILINE))
    assert {"pillow", "onnxruntime", "bentoml"} <= {package.name for package in packages}


@pytest.mark.parametrize(
    ("purls", "complaint"),
    [
        (None, "is not there: make image writes it"),
        (PURLS[:1], "has no Debian packages"),
        (["pkg:deb/debian/bash@5.2.15-2?arch=amd64&distro=debian-12"], "does not tell the sources"),
    ],
    ids=["missing", "python-only", "before-sources"],
)
def test_an_image_whose_packages_are_unknown_fails(
    service: StandIn, requirements: Path, tmp_path: Path, purls: list[str] | None, complaint: str
) -> None:
    file = tmp_path / "sbom.cdx.json" if purls is None else write_bill(tmp_path, purls)
    command = [sys.executable, "-m", "container.audit", str(requirements), str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert service.asked == []
