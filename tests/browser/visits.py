"""What a visitor does on the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import FilePayload, Locator, Page, Route, expect

ROOT = Path(__file__).resolve().parents[2]
SHIP = ROOT / "docs" / "ship.jpg"


def file(name: str, content: str | bytes, media_type: str = "text/csv") -> FilePayload:
    """Return a file as a visitor chooses it."""
    return {"name": name, "mimeType": media_type, "buffer": content.encode() if isinstance(content, str) else content}


class Visit:
    """A visit to the page of a server."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address

    def open(self, model: str = "") -> None:
        """Open the page at a model, by default at the first."""
        self.page.goto(f"{self.address}#{model}" if model else self.address)
        expect(self.form).to_be_visible()

    def choose(self, model: str) -> None:
        """Choose a model in the navigation."""
        self.page.get_by_role("navigation").get_by_role("link", name=model, exact=True).click()
        expect(self.page.get_by_role("heading", level=1)).to_have_text(model)

    def ask(self) -> None:
        """Send the form."""
        self.form.get_by_role("button", name="Ask", exact=True).click()

    @property
    def form(self) -> Locator:
        """The form of the model."""
        return self.page.get_by_role("form", name="Input")

    @property
    def answer(self) -> Locator:
        """The part of the page with the answer."""
        return self.page.get_by_role("region", name="Answer")

    @property
    def many(self) -> Locator:
        """The part of the page for files of rows."""
        return self.page.get_by_role("region", name="Many at once")

    def upload(self, given: FilePayload | Path) -> None:
        """Choose a file of rows."""
        self.many.get_by_label("File: choose").set_input_files(given)

    def code(self, language: str) -> str:
        """Return the code of the request that was sent."""
        tab = self.page.get_by_role("tab", name=language, exact=True)
        tab.click()
        code: str = self.page.get_by_role("tabpanel", name=language).inner_text()
        return code

    def respond(self, path: str, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Have a path answered with this, not by the server."""

        def fulfil(route: Route) -> None:
            route.fulfill(
                status=status, body=json.dumps(body), content_type="application/json", headers=dict(headers or {})
            )

        self.page.route(f"**/{path}", fulfil)

    def document(self, change: Any) -> None:
        """Change the OpenAPI document that the page gets: `change` is called with it."""

        def changed(route: Route) -> None:
            response = route.fetch()
            document = response.json()
            change(document)
            route.fulfill(response=response, json=document)

        self.page.route("**/docs.json", changed)
