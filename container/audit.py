"""Audit for known vulnerabilities: `python -m container.audit REQUIREMENTS BILL_OF_MATERIALS`.

Asks OSV about the pinned Python packages and about the Debian packages of the image, which the bill of materials
(`container.sbom`) lists. Exits with 1 if something is found, unless `accepted.toml` accepts it or Debian itself has no
fix for it yet, and with 2 if OSV could not be asked about all packages.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from datetime import date
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, Field, TypeAdapter

from container.osv import Osv, OsvError, Package, Record, plain

ACCEPTED = Path(__file__).with_name("accepted.toml")


class AuditError(RuntimeError):
    """The packages to audit are not known."""


class Acceptance(BaseModel):
    """Why a vulnerability is accepted, and until which day."""

    reason: str = Field(min_length=1)
    until: date


def python_packages(requirements: Path) -> list[Package]:
    """Return the packages that a requirements file pins; raise AuditError if one is not pinned."""
    packages = []
    for line in requirements.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pin = re.match(r"([\w.-]+)(?:\[[^]]*\])?==([^\s;*]+)(?=\s|;|$)", line)
        if pin is None:
            raise AuditError(f"{requirements}: {line} is not pinned")
        packages.append(Package("PyPI", plain(pin[1]), pin[2]))
    return packages


def debian_packages(bill: Path) -> list[Package]:
    """Return the source packages of the Debian packages in a bill of materials; raise AuditError if it has none."""
    if not bill.exists():
        raise AuditError(f"{bill} is not there: make image writes it, or make sbom for an image that is built")
    packages = set()
    for component in json.loads(bill.read_text(encoding="utf-8"))["components"]:
        purl = urlsplit(component.get("purl", ""))
        if purl.path.startswith("deb/debian/"):
            qualifiers = parse_qs(purl.query)
            if "upstream" not in qualifiers:
                raise AuditError(f"{bill} does not tell the sources of Debian packages: make sbom writes it anew")
            release = qualifiers["distro"][0].removeprefix("debian-")
            packages.add(Package(f"Debian:{release}", *qualifiers["upstream"][0].split("@")))
    if not packages:
        raise AuditError(f"{bill} has no Debian packages: make sbom writes it anew")
    return sorted(packages)


def acceptances() -> dict[str, Acceptance]:
    """Return the accepted vulnerabilities by id."""
    return TypeAdapter(dict[str, Acceptance]).validate_python(tomllib.loads(ACCEPTED.read_text(encoding="utf-8")))


def verdict(package: Package, record: Record, accepted: dict[str, Acceptance]) -> str:
    """Return why a vulnerability may stay; "" if it may not."""
    for name in (record.id, *record.aliases):
        if name in accepted and date.today() <= accepted[name].until:
            return f"accepted until {accepted[name].until}: {accepted[name].reason}"
    known = any(found.ranges for found in record.of(package))
    return "not fixed by Debian yet" if known and package.ecosystem != "PyPI" and not record.fixed_in(package) else ""


def main(requirements: Path, bill: Path) -> int:
    """Print the known vulnerabilities, and return the exit code."""
    try:
        python, debian = python_packages(requirements), debian_packages(bill)
        found = Osv().vulnerabilities([*python, *debian])
    except (AuditError, OsvError) as error:
        print(f"the audit failed: {error}", file=sys.stderr)
        return 2
    accepted = acceptances()
    faults = 0
    for package, records in found.items():
        for record in records:
            may_stay = verdict(package, record, accepted)
            faults += not may_stay
            names = ", ".join([record.id, *record.aliases])
            fixed = ", ".join(record.fixed_in(package)) or "no version"
            print(f"{package.ecosystem} {package.name} {package.version}: {names}, {may_stay or f'fixed in {fixed}'}")
    print(
        f"{faults} known vulnerabilities in {len(python)} Python packages and {len(debian)} source packages of Debian"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
