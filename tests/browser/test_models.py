"""Each model's whole way: its form, the answer, the code, and files."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.code import LANGUAGES, run
from tests.browser.visits import SHIP, Visit, file

MODELS = {
    "sentiment": "POSITIVE",
    "image": "ship",
    "breast_cancer": "label M, prediction 1",
    "segmentation": "class_probability",
}


def fill(visit: Visit, model: str) -> None:
    """Open a model, whose form has its example; a picture is chosen."""
    visit.open(model)
    if model == "image":
        visit.form.get_by_label("image_file").set_input_files(SHIP)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_answers_its_example(visit: Visit, model: str) -> None:
    fill(visit, model)
    visit.ask()
    expect(visit.answer.get_by_role("article").first).to_contain_text(MODELS[model])
    for fact in ("time", "cache", "version"):
        expect(visit.answer.get_by_role("term").filter(has_text=fact)).to_be_visible()
    card = visit.page.get_by_role("region", name="Model card")
    expect(card.get_by_role("heading", name="Limits")).to_be_visible()
    expect(card.get_by_role("row", name="accuracy").first).to_contain_text(" to ")


@pytest.mark.parametrize("model", MODELS)
def test_the_code_of_a_request_runs_as_shown(visit: Visit, model: str, tmp_path: Path) -> None:
    fill(visit, model)
    visit.ask()
    expect(visit.answer.get_by_role("article").first).to_be_visible()
    visit.answer.get_by_text("The answer as JSON").click()
    shown = json.loads(visit.answer.locator("pre").inner_text())
    shutil.copy(SHIP, tmp_path)
    codes = {language: visit.code(language) for language in LANGUAGES}
    with ThreadPoolExecutor() as pool:
        curl, python, javascript, triton = pool.map(lambda language: run(language, codes[language], tmp_path), codes)
    assert json.loads(curl) == shown
    assert ast.literal_eval(python) == shown
    for printed in (javascript, triton):  # no JSON
        assert all(word in printed for word in words(shown))


def words(shown: Any) -> set[str]:
    """Return what is printed of an answer in any language: its labels, or the first digits of its probability."""
    if "class_probability" in shown:
        return {str(shown["class_probability"][0])[:6]}
    return set(re.findall(r'"[lL]abel": "(\w+)"', json.dumps(shown))[:1])


def test_code_is_copied(visit: Visit) -> None:
    fill(visit, "breast_cancer")
    visit.ask()
    code = visit.code("curl")
    visit.page.get_by_role("button", name="Copy").click()
    expect(visit.page.get_by_text("Copied.")).to_be_visible()
    assert visit.page.evaluate("navigator.clipboard.readText()") == code


def test_the_second_answer_comes_from_the_cache(visit: Visit) -> None:
    visit.open("sentiment")
    visit.form.get_by_label("text, one per line").fill(f"asked twice, {os.urandom(8).hex()}")
    visit.ask()
    expect(visit.answer).to_contain_text("miss")
    visit.ask()
    expect(visit.answer).to_contain_text("hit")


def test_answers_are_sorted_and_downloaded(visit: Visit, tmp_path: Path) -> None:
    visit.open("sentiment")
    visit.form.get_by_label("text, one per line").fill('a delight\n\ndull\n=1+1, "quoted"\n')
    visit.ask()
    table = visit.answer.get_by_role("region", name="3 answers")
    table.get_by_role("button", name="item").click()
    expect(table.get_by_role("columnheader", name="item")).to_have_attribute("aria-sort", "ascending")
    table.get_by_role("button", name="item").click()
    expect(table.get_by_role("row").nth(1)).to_contain_text("dull")
    with visit.page.expect_download() as download:
        visit.answer.get_by_role("button", name="Download CSV").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    with path.open(encoding="utf-8", newline="") as rows:
        assert [row["item"] for row in csv.DictReader(rows)] == ["a delight", "dull", '=1+1, "quoted"']


def test_rows_are_pasted(visit: Visit) -> None:
    visit.open("sentiment")
    visit.many.get_by_text("Paste rows instead").click()
    visit.many.get_by_label("Rows: CSV").fill("text\na delight\ndull\n")
    visit.many.get_by_role("button", name="Use these rows").click()
    expect(visit.many).to_contain_text("1 of the 1 columns")
    visit.many.get_by_role("button", name="Answer the file").click()
    expect(visit.many.get_by_role("region", name="2 rows answered")).to_contain_text("NEGATIVE")


def test_a_picture_is_dropped_and_pasted(visit: Visit) -> None:
    visit.open("image")
    for event, transfer in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        given = {"bytes": list(SHIP.read_bytes()), "name": f"{event}.jpg"}
        files = visit.page.evaluate_handle(
            """({bytes, name}) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(bytes)], name, {type: "image/jpeg"}));
                return transfer;
            }""",
            given,
        )
        script = """([node, event, name, transfer]) => {
            const made = event === "drop"
                ? new DragEvent(event, {dataTransfer: transfer, bubbles: true, cancelable: true})
                : new ClipboardEvent(event, {clipboardData: transfer, bubbles: true});
            node.dispatchEvent(made);
        }"""
        zone = visit.form.locator(".drop").element_handle()
        visit.page.evaluate(script, [zone, event, transfer, files])
        expect(visit.form.get_by_role("img", name=f"{event}.jpg")).to_be_visible()
    visit.ask()
    expect(visit.answer.get_by_role("article")).to_contain_text("ship")


def test_a_job_is_submitted_watched_and_fetched(visit: Visit) -> None:
    visit.open("segmentation")
    visit.upload(file("customers.csv", "x44\n" + "0.25\n" * 5_000))
    visit.many.get_by_role("button", name="Submit as a job").click()
    job = visit.many.get_by_role("article", name="Job for customers.csv")
    expect(job).to_contain_text("completed: 5000 of 5000 rows")
    for kind, start in (("csv", b"class_probability,"), ("json", b"{"), ("parquet", b"PAR1")):
        with visit.page.expect_download() as download:
            job.get_by_role("button", name=f"Download {kind}").click()
        assert download.value.suggested_filename == f"customers-scored.{kind}"
        assert Path(download.value.path()).read_bytes().startswith(start)


def test_a_job_is_cancelled(visit: Visit) -> None:
    visit.open("sentiment")
    texts = "text\n" + "".join(f"a long evening and the number {number}\n" for number in range(20_000))
    visit.upload(file("texts.csv", texts))
    visit.many.get_by_role("button", name="Submit as a job").click()
    job = visit.many.get_by_role("article", name="Job for texts.csv")
    job.get_by_role("button", name="Cancel").click()
    expect(job).to_contain_text("canceled")


def test_a_model_that_the_page_has_never_seen_appears_by_itself(visit: Visit) -> None:
    lengths = {"type": "number", "exclusiveMinimum": 0}
    flower = {
        "type": "object",
        "required": ["petal_length"],
        "properties": {"petal_length": lengths, "kind": {"enum": ["a", "b"]}},
    }

    def add(document: dict[str, object]) -> None:
        paths: dict[str, object] = document["paths"]  # type: ignore[assignment]
        paths["/iris/info"] = {}
        paths["/iris/predict"] = {
            "post": {
                "requestBody": {
                    "content": {"application/json": {"schema": flower | {"example": {"petal_length": 1.4}}}}
                }
            }
        }

    columns = [{"name": name, "datatype": "FP64", "shape": [-1], "used": True} for name in ("petal_length", "kind")]
    outputs = [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP64", "shape": [-1, -1]},
    ]
    visit.document(add)
    visit.respond("iris/info", 200, {"inputs": columns, "outputs": outputs, "labels": ["setosa", "virginica"]})
    visit.respond("iris/predict", 200, {"label": "setosa", "probabilities": [0.9, 0.1]})
    visit.open()
    visit.choose("iris")
    expect(visit.form.get_by_label("petal_length")).to_have_value("1.4")
    visit.form.get_by_label("kind").select_option("b")
    visit.ask()
    expect(visit.answer.get_by_role("article")).to_contain_text("setosa")
    expect(visit.answer.get_by_role("article")).to_contain_text("90.0 %")
    assert '"kind":"b"' in visit.code("curl")


def test_the_live_strip_tells_what_the_server_does(visit: Visit, page: Page) -> None:
    visit.open("breast_cancer")
    strip = page.locator("#live")
    expect(strip).to_contain_text("queue")
    visit.ask()
    expect(strip.locator("div").filter(has_text="p99")).to_contain_text("ms")
