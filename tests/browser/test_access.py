"""Everybody can use it: by keyboard, by screen reader, in the dark, on a phone, on a slow line."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.visits import SHIP, Visit, file

MODELS = ("sentiment", "image", "breast_cancer", "segmentation")
MAX_BYTES = 100_000
# Words of tables, of up to 20 characters, that stand in more than one line.
BROKEN_WORDS = """() => [...document.querySelectorAll("table :is(th, td)")].flatMap((cell) => {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    const found = [];
    while (texts.nextNode()) {
        const { data } = texts.currentNode;
        for (const { 0: word, index } of data.matchAll(/(?<!\\S)\\S{1,20}(?!\\S)/g)) {
            const range = document.createRange();
            range.setStart(texts.currentNode, index);
            range.setEnd(texts.currentNode, index + word.length);
            if (new Set([...range.getClientRects()].map(({ top }) => top)).size > 1) found.push(word);
        }
    }
    return found;
})"""


def used(visit: Visit, model: str) -> None:
    """Use all of a model's page: an answer, a reason, a file, a job, the code."""
    visit.open(model)
    if model == "image":
        visit.form.get_by_label("image_file").set_input_files(SHIP)
    visit.ask()
    visit.answer.get_by_role("button", name="Why?").first.click()
    expect(visit.answer.get_by_role("figure")).to_be_visible()
    if model == "segmentation":
        visit.upload(file("rows.csv", "x44\n0.5\n0.7\n"))
        visit.many.get_by_role("button", name="Answer the file").click()
        visit.many.get_by_role("button", name="Submit as a job").click()
        expect(visit.many).to_contain_text("completed")
    visit.page.locator("details").evaluate_all("found => found.forEach((one) => { one.open = true; })")


def violations(page: Page) -> list[str]:
    """Return what axe-core objects to, with the elements."""
    found: Any = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("model", MODELS)
def test_axe_finds_no_violation_in_the_light_nor_in_the_dark(visit: Visit, model: str) -> None:
    used(visit, model)
    assert violations(visit.page) == []
    visit.page.emulate_media(color_scheme="dark")
    assert violations(visit.page) == []


def test_axe_finds_no_violation_in_an_error(visit: Visit) -> None:
    visit.open("breast_cancer")
    visit.form.get_by_label("area_se").fill("")
    visit.ask()
    expect(visit.answer.get_by_role("alert")).to_be_visible()
    assert violations(visit.page) == []


def test_dark_is_dark(visit: Visit) -> None:
    brightness = "Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    visit.open()
    assert visit.page.evaluate(brightness) > 200
    visit.page.emulate_media(color_scheme="dark")
    assert visit.page.evaluate(brightness) < 60


@pytest.mark.parametrize("model", MODELS)
def test_a_phone_shows_all_without_scrolling_sideways(browser: Browser, server: str, model: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    used(Visit(page, server), model)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    heights = page.locator("button:visible").evaluate_all("found => found.map((one) => one.offsetHeight)")
    assert min(heights) >= 24
    page.close()


@pytest.mark.parametrize("width", [1200, 360])
def test_tables_keep_words_whole_and_hold_long_ones(visit: Visit, width: int) -> None:
    page = visit.page
    page.set_viewport_size({"width": width, "height": 800})
    visit.open("sentiment")
    visit.form.get_by_label("text, one per line").fill(f"{'long' * 1_000} delight\ndull")
    visit.ask()
    visit.answer.get_by_role("button", name="Why?").first.click()
    expect(visit.answer.get_by_role("figure").get_by_role("table")).to_be_visible()
    expect(page.get_by_role("region", name="Model card").get_by_role("table")).to_be_visible()
    assert page.evaluate(BROKEN_WORDS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_alone_will_do(visit: Visit) -> None:
    page = visit.page
    visit.open("breast_cancer")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the model")
    expect(skip).to_be_focused()
    press_until(page, "link", "sentiment")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("sentiment")
    expect(page.get_by_role("main")).to_be_focused()
    skip.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("sentiment")
    expect(page.get_by_role("main")).to_be_focused()
    press_until(page, "textbox", "text, one per line")
    page.keyboard.press("Control+A")
    page.keyboard.type("a delight")
    page.keyboard.press("Control+Enter")
    expect(visit.answer.get_by_role("article")).to_contain_text("POSITIVE")
    press_until(page, "tab", "curl")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Python")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Python")).to_contain_text("import requests")
    press_until(page, "button", "Copy")


def press_until(page: Page, role: Any, name: str) -> None:
    """Press Tab until an element has the focus, which is then seen."""
    wanted = page.get_by_role(role, name=name, exact=True)
    expect(wanted).to_be_visible()
    for _ in range(40):
        if wanted.evaluate("node => node === document.activeElement"):
            assert wanted.evaluate("node => getComputedStyle(node).outlineStyle") != "none"
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {name}")


def test_the_whole_page_is_small_and_seen_before_the_models_are_known(page: Page, server: str) -> None:
    page.route("**/docs.json", lambda route: None)  # is never answered
    page.goto(server)
    expect(page.get_by_text("Asking the server for its models")).to_be_visible()
    page.wait_for_load_state("load")
    sizes = page.evaluate(
        """() => performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
            .filter((entry) => !/metrics$|docs.json$/.test(entry.name)).map((entry) => entry.transferSize)"""
    )
    assert len(sizes) > 10
    assert all(sizes)
    assert sum(sizes) < MAX_BYTES
