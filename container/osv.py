"""A client of OSV, the database of open source vulnerabilities, whose API is https://google.github.io/osv.dev/api/."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, ValidationError

ADDRESS = "https://api.osv.dev"
TIMEOUT_SECONDS = 30
# The most queries in a request, by OSV's own limit.
BATCH = 1000
# The most requests for one audit, so that an endless chain of pages ends.
MAX_REQUESTS = 100


Parsed = TypeVar("Parsed", bound=BaseModel)


class OsvError(RuntimeError):
    """OSV is out of reach, or its response is invalid."""


@dataclass(frozen=True, order=True)
class Package:
    """A package as OSV knows it; for Debian, a source package and its version."""

    ecosystem: str
    name: str
    version: str


class Event(BaseModel):
    """A version that introduces a vulnerability or fixes it."""

    fixed: str = ""


class Range(BaseModel):
    """A range of versions."""

    events: list[Event]


class PackageName(BaseModel):
    """The package that a record is about."""

    ecosystem: str
    name: str


class Affected(BaseModel):
    """The part of a record about one package."""

    package: PackageName = PackageName(ecosystem="", name="")
    ranges: list[Range] = []


class Record(BaseModel):
    """A vulnerability."""

    id: str
    aliases: list[str] = []
    affected: list[Affected] = []

    def of(self, package: Package) -> list[Affected]:
        """Return the parts about a package, whatever the version."""
        asked = (package.ecosystem, plain(package.name))
        return [found for found in self.affected if (found.package.ecosystem, plain(found.package.name)) == asked]

    def fixed_in(self, package: Package) -> list[str]:
        """Return the versions of a package that fix it."""
        events = [event for found in self.of(package) for part in found.ranges for event in part.events]
        return [event.fixed for event in events if event.fixed]


class Hit(BaseModel):
    """A vulnerability of a package, by its id."""

    id: str = Field(min_length=1)


class QueryResult(BaseModel):
    """The result of one query: vulnerabilities, and a token if there are more pages."""

    vulns: list[Hit] = []
    next_page_token: str = ""


class BatchResponse(BaseModel):
    """The results of a batch of queries, in their order."""

    results: list[QueryResult]


def plain(name: str) -> str:
    """Return the normalised name of a package, the same for all its spellings."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Osv:
    """A client of OSV, or of the server that `OSV_URL` names in its place; every call may raise OsvError."""

    def __init__(self) -> None:
        self.address = os.environ.get("OSV_URL") or ADDRESS
        self.client = httpx.Client(base_url=self.address, timeout=TIMEOUT_SECONDS)

    def vulnerabilities(self, packages: Iterable[Package]) -> dict[Package, list[Record]]:
        """Return the records of each package's vulnerabilities."""
        ids = self.ids(packages)
        records = {name: self.record(name) for name in sorted({name for found in ids.values() for name in found})}
        return {package: [records[name] for name in sorted(found)] for package, found in ids.items()}

    def ids(self, packages: Iterable[Package]) -> dict[Package, set[str]]:
        """Return the ids of each package's vulnerabilities, from all pages."""
        found: dict[Package, set[str]] = {package: set() for package in packages}
        asked = [(package, "") for package in found]
        for _ in range(MAX_REQUESTS):
            batch, asked = asked[:BATCH], asked[BATCH:]
            for (package, _token), result in zip(batch, self.results(batch), strict=True):
                found[package].update(hit.id for hit in result.vulns)
                if result.next_page_token:
                    asked.append((package, result.next_page_token))
            if not asked:
                return found
        raise OsvError(f"{self.address} has not come to an end after {MAX_REQUESTS} pages")

    def results(self, batch: list[tuple[Package, str]]) -> list[QueryResult]:
        """Return the results of queries for one page each, in their order."""
        queries = [
            {"package": {"ecosystem": package.ecosystem, "name": package.name}, "version": package.version}
            | ({"page_token": token} if token else {})
            for package, token in batch
        ]
        results = self.ask("POST", "/v1/querybatch", BatchResponse, {"queries": queries}).results
        if len(results) != len(batch):
            raise OsvError(f"{self.address} answers {len(results)} of {len(batch)} queries")
        return results

    def record(self, name: str) -> Record:
        """Return the record with an id."""
        return self.ask("GET", f"/v1/vulns/{quote(name, safe='')}", Record)

    def ask(self, method: str, path: str, kind: type[Parsed], body: object = None) -> Parsed:
        """Send a request and return the body of the response as `kind`."""
        try:
            response = self.client.request(method, path, json=body)
            response.raise_for_status()
            return kind.model_validate_json(response.content)
        except httpx.HTTPStatusError as error:
            raise OsvError(f"{self.address} answers {error.response.status_code} to {path}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OsvError(f"{self.address} is out of reach: {error or type(error).__name__}") from error
        except ValidationError as error:
            raise OsvError(
                f"{self.address} answers to {path} what cannot be read: {error.errors()[0]['msg']}"
            ) from error
