"""`make serve`, open the page, classify a sentence, a picture and a CSV, and see why."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.visits import SHIP, Visit, file

CUSTOMERS = 'x5,x12,x44\nmonday,"$5,547.78",0.1\nsunday,,0.7\n'


def test_open_the_page_classify_a_sentence_a_picture_and_a_csv_and_see_why(visit: Visit) -> None:
    visit.open()

    visit.choose("sentiment")
    visit.form.get_by_label("text, one per line").fill("a delight from start")
    visit.ask()
    expect(visit.answer.get_by_role("article")).to_contain_text("POSITIVE")
    visit.answer.get_by_role("button", name="Why?").click()
    expect(visit.answer.get_by_role("figure").locator("mark")).to_have_text(["a", "delight", "from", "start"])

    visit.choose("image")
    visit.form.get_by_label("image_file").set_input_files(SHIP)
    visit.ask()
    expect(visit.answer.get_by_role("article")).to_contain_text("ship")
    visit.answer.get_by_role("button", name="Why?").click()
    expect(visit.answer.get_by_role("img", name="Heat map")).to_be_visible()

    visit.choose("segmentation")
    visit.upload(file("customers.csv", CUSTOMERS))
    expect(visit.many).to_contain_text("3 of the 10 columns that the model reads have values.")
    visit.many.get_by_role("button", name="Answer the file").click()
    answers = visit.many.get_by_role("region", name="2 rows answered")
    expect(answers.get_by_role("row")).to_have_count(3)
    answers.get_by_role("button", name="Why?").first.click()
    expect(visit.many.get_by_role("figure").get_by_role("row", name="x44")).to_be_visible()
