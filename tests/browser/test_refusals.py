"""Keys, and what the page says when the server refuses or is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.code import LANGUAGES, run
from tests.browser.visits import Visit


def test_a_row_that_does_not_fit_is_told_at_its_field(visit: Visit) -> None:
    visit.open("breast_cancer")
    field = visit.form.get_by_label("area_se")
    field.fill("much")
    visit.ask()
    expect(visit.answer.get_by_role("alert")).to_contain_text("422")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description("Input should be a valid number")
    field.fill("153.4")
    visit.ask()
    expect(visit.answer.get_by_role("article")).to_contain_text("label M")
    expect(field).not_to_have_attribute("aria-invalid", "true")


def test_a_file_that_does_not_fit_is_told_before_it_is_sent(visit: Visit) -> None:
    visit.open("breast_cancer")
    visit.upload({"name": "rows.csv", "mimeType": "text/csv", "buffer": b"area_se\n153.4\n"})
    expect(visit.many.get_by_role("alert")).to_contain_text("the column concavity_mean is missing")


def test_an_overloaded_server_is_asked_again_when_it_says(visit: Visit) -> None:
    visit.open("sentiment")
    visit.respond("sentiment/predict", 503, {"error": "overloaded", "detail": []}, {"Retry-After": "1"})
    visit.ask()
    expect(visit.answer.get_by_role("alert")).to_contain_text("503: overloaded")
    again = visit.answer.get_by_role("button", name="Ask again")
    expect(again).to_be_disabled()
    visit.page.unroute("**/sentiment/predict")
    expect(again).to_be_enabled()
    again.click()
    expect(visit.answer.get_by_role("article").first).to_contain_text("POSITIVE")


def test_a_server_that_is_gone_is_told(visit: Visit) -> None:
    visit.open("sentiment")
    visit.page.context.set_offline(True)
    visit.ask()
    expect(visit.answer.get_by_role("alert")).to_contain_text("The server does not answer")
    visit.page.context.set_offline(False)
    visit.answer.get_by_role("button", name="Ask again").click()
    expect(visit.answer.get_by_role("article").first).to_be_visible()


def test_a_server_that_is_gone_from_the_start_is_told(page: Page, server: str) -> None:
    page.route("**/docs.json", lambda route: route.abort("connectionrefused"))
    page.goto(server)
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")


def test_what_is_not_answered_is_asked_again(page: Page, server: str) -> None:
    requests: list[Route] = []

    def answer(route: Route) -> None:
        requests.append(route)
        if len(requests) > 1:
            route.continue_()

    page.route("**/docs.json", answer)
    page.goto(server)
    expect(Visit(page, server).form).to_be_visible()
    assert len(requests) == 2


@pytest.fixture
def locked(page: Page, guarded: str) -> Visit:
    """Return a visit to the server that asks for a key, with the page open."""
    page.goto(guarded)
    return Visit(page, guarded)


def use_key(page: Page, key: str) -> None:
    """Type a key and use it."""
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use").click()


def test_a_key_is_asked_for_and_kept_for_the_session_only(locked: Visit, key: str) -> None:
    page = locked.page
    expect(page.get_by_role("alert")).to_contain_text("401")
    expect(page.get_by_label("API key")).to_be_focused()
    use_key(page, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("401")
    use_key(page, key)
    locked.ask()
    expect(locked.answer.get_by_role("article")).to_contain_text("label M")
    assert not [language for language in LANGUAGES if key in locked.code(language)]
    page.reload()
    expect(locked.form).to_be_visible()
    assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
    use_key(page, "")
    expect(page.get_by_role("alert")).to_contain_text("401")
    assert page.evaluate("sessionStorage.length") == 0


def test_the_code_takes_the_key_from_the_environment(locked: Visit, key: str, tmp_path: Path) -> None:
    use_key(locked.page, key)
    locked.ask()
    expect(locked.answer.get_by_role("article")).to_contain_text("label M")
    for language in LANGUAGES:
        assert "M" in run(language, locked.code(language), tmp_path, TIFFIN_KEY=key)


def test_too_many_requests_are_told(locked: Visit, key: str) -> None:
    use_key(locked.page, key)
    expect(locked.form).to_be_visible()
    asked = """async ([path, key]) => {
        let status = 200;
        for (let i = 0; i < 100 && status === 200; i += 1) {
            status = (await fetch(path, {headers: {Authorization: `Bearer ${key}`}})).status;
        }
        return status;
    }"""
    assert locked.page.evaluate(asked, ["breast_cancer/info", key]) == 429
    locked.ask()
    expect(locked.answer.get_by_role("alert")).to_contain_text("429")
    expect(locked.answer.get_by_role("button", name="Ask again in")).to_be_disabled()
