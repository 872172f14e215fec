"""The pictures of docs/ that show the page: `make screenshots` writes them."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.visits import ROOT, Visit

PICTURE = ROOT / "docs" / "page.png"
MAX_BYTES = 150_000


def test_take_the_picture_of_the_readme(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 1100, "height": 680})
    visit.open("sentiment")
    visit.form.get_by_label("text, one per line").fill("hardly a masterpiece, but the acting is a delight")
    visit.ask()
    visit.answer.get_by_role("button", name="Why?").click()
    expect(visit.answer.get_by_role("figure")).to_be_visible()
    visit.page.evaluate("scrollTo(0, 0)")
    visit.page.screenshot(path=PICTURE, animations="disabled")
    assert PICTURE.stat().st_size < MAX_BYTES
