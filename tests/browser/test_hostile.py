"""Whatever a name, a text or a card holds is shown as text; the page's policy stops all else."""

from __future__ import annotations

import re

import httpx
from playwright.sync_api import Page, Route, expect

from tests.browser.visits import SHIP, Visit, file

MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


def check_harmless(page: Page) -> None:
    """Fail where markup came to life."""
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0


def test_a_text_is_shown_as_text(visit: Visit) -> None:
    answer = {"predictions": [[{"label": MARKUP, "score": 1.0}]]}
    words = [{"span": [0, 4], "value": 1.0}]
    told = {"prediction": answer, "base": 0, "contributions": words, "evaluations": 2, "standard_error": 0}
    visit.respond("sentiment/explain", 200, told)
    visit.open("sentiment")
    visit.form.get_by_label("text, one per line").fill(f"{MARKUP}\n{MARKUP}")
    visit.ask()
    expect(visit.answer.get_by_role("article").first).to_contain_text(MARKUP)
    visit.answer.get_by_role("button", name="Why?").first.click()
    expect(visit.answer.get_by_role("figure")).to_contain_text(MARKUP)
    check_harmless(visit.page)


def test_the_name_of_a_file_and_its_columns_are_shown_as_text(visit: Visit) -> None:
    visit.open("image")
    visit.form.get_by_label("image_file").set_input_files(file(f"{MARKUP}.jpg", SHIP.read_bytes(), "image/jpeg"))
    visit.ask()
    expect(visit.form).to_contain_text(MARKUP)
    expect(visit.answer.get_by_role("article")).to_contain_text("ship")
    visit.choose("sentiment")
    visit.upload(
        file(f"{MARKUP}.csv", f'"text","{MARKUP.replace(chr(34), chr(34) * 2)}"\n{MARKUP.replace(chr(34), "")},1\n')
    )
    expect(visit.many).to_contain_text("<img src=x")
    visit.many.get_by_role("button", name="Submit as a job").click()
    expect(visit.many.get_by_role("heading", level=3)).to_contain_text(MARKUP)
    expect(visit.many).to_contain_text("completed")
    check_harmless(visit.page)


def test_labels_and_cards_are_shown_as_text(visit: Visit) -> None:
    def poisoned(route: Route) -> None:
        info = route.fetch().json()
        info["card"] |= {
            "summary": MARKUP,
            "limits": [MARKUP],
            "procedure": MARKUP,
            "metrics": {MARKUP: info["card"]["metrics"]["auc"]},
        }
        route.fulfill(json=info | {"labels": [MARKUP], "framework": MARKUP})

    visit.page.route("**/sentiment/info", poisoned)
    visit.respond("sentiment/predict", 200, {"predictions": [[{"label": MARKUP, "score": 0.9}]]})
    visit.open("sentiment")
    visit.ask()
    expect(visit.answer.get_by_role("article")).to_contain_text(MARKUP)
    expect(visit.page.get_by_role("region", name="Model card").get_by_role("listitem")).to_have_text([MARKUP])
    check_harmless(visit.page)


def test_errors_are_shown_as_text(visit: Visit) -> None:
    visit.respond("sentiment/predict", 422, {"error": MARKUP, "detail": [{"loc": [MARKUP], "msg": MARKUP}]})
    visit.open("sentiment")
    visit.ask()
    expect(visit.answer.get_by_role("alert")).to_contain_text(MARKUP)
    check_harmless(visit.page)


def test_the_policy_stops_what_the_page_does_not_need(page: Page, server: str) -> None:
    context = page.context.new_page()  # not `page`, which fails for what its policy stops
    context.goto(server)
    context.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.inline = 1";
        document.body.append(script);
        const button = document.createElement("button");
        button.setAttribute("onclick", "window.inline = 1");
        document.body.append(button);
        button.click();
    }""")
    assert context.evaluate("window.inline") is None
    policy = httpx.get(server).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


def test_the_page_names_no_other_host(server: str) -> None:
    page = httpx.get(server).text
    assert not re.findall(r"(?:src|href)=\"(?!\./|#)[^\"]*", page)


def test_other_origins_read_nothing(server: str) -> None:
    headers = httpx.get(f"{server}/docs.json", headers={"Origin": "https://other.example"}).headers
    assert not [name for name in headers if name.startswith("access-control-")]
