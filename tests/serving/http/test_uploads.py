"""Uploads of any model's files: rows keep their order, and what was begun is not lost."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.image import ImageClassifier
from models.model import Array, InvalidInputError
from models.segmentation import Segmentation
from models.segmentation.rows import read_rows
from models.sentiment import Sentiment
from serving.http import uploads
from serving.http.uploads import preview_route, upload_route
from serving.inference import context
from serving.inference.context import Priority, own_context
from serving.inference.errors import OverloadedError

COUNT = 3 * Sentiment.max_items + 1


class Lengths:
    """A model whose outputs are the lengths of its items."""

    @staticmethod
    def columns(outputs: Array) -> dict[str, Array]:
        return {"label": outputs}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Return a file of texts, each one character longer than the one before."""
    path = tmp_path / "texts.csv"
    path.write_text("text\n" + "".join("a" * length + "\n" for length in range(1, COUNT + 1)), encoding="utf-8")
    return path


def answer(model: Any, path: Path, infer: Any) -> Any:
    """Return the answer to a file."""
    request: Any = SimpleNamespace(file=path)
    return asyncio.run(upload_route(model).handler(Lengths, request, infer))  # type: ignore[arg-type]


async def lengths(items: Collection[Any]) -> Array:
    return np.array([len(item) for item in items])


def test_rows_keep_their_order_however_they_are_cut(texts: Path) -> None:
    seen: list[int] = []

    async def infer(items: Collection[Any]) -> Array:
        seen.append(len(items))
        return await lengths(items)

    assert answer(Sentiment, texts, infer).label == list(range(1, COUNT + 1))
    assert len(seen) > 1
    assert sum(seen) == COUNT


def test_a_file_is_batch_work(texts: Path) -> None:
    request = own_context(60)

    async def infer(items: Collection[Any]) -> Array:
        assert request.priority is Priority.BATCH
        return await lengths(items)

    context.current.set(request)
    try:
        answer(Sentiment, texts, infer)
    finally:
        context.current.set(None)


def refusing(*refused: int) -> Any:
    """Return an `infer` that refuses its first, second or another call, counted from 0."""
    calls = iter(range(100))

    async def infer(items: Collection[Any]) -> Array:
        if next(calls) in refused:
            raise OverloadedError(1.0)
        return await lengths(items)

    return infer


def test_a_file_that_is_begun_is_not_refused(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "RETRY_SECONDS", 0.0)
    assert answer(Sentiment, texts, refusing(1, 2)).label == list(range(1, COUNT + 1))
    with pytest.raises(OverloadedError):
        answer(Sentiment, texts, refusing(0))


def test_a_bad_picture_is_named_by_row_column_and_file(tmp_path: Path) -> None:
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.jpg", "b.jpg"):
            archive.writestr(name, b"1")

    async def infer(items: Collection[Any]) -> Array:
        raise InvalidInputError("no picture", ("image_file",), "image_format", item=1)

    with pytest.raises(InvalidInputError, match=r"^b\.jpg: no picture$") as caught:
        answer(ImageClassifier, path, infer)
    assert (caught.value.location, caught.value.kind) == (("file", "data", 1, "image"), "image_format")


def preview(model: Any, path: Path, content: str) -> dict[str, Any]:
    """Return the answer of `preview` to a file."""
    path.write_text(content, encoding="utf-8")
    request: Any = SimpleNamespace(file=path)
    found: dict[str, Any] = asyncio.run(preview_route(model).handler(Lengths, request, lengths)).model_dump()  # type: ignore[arg-type]
    return found


def test_the_first_rows_are_previewed_as_predict_takes_them(tmp_path: Path) -> None:
    rows = 'x5, X12 ,x44,other\nmonday,"$5,547.78",0.5,1\n,,NA,1\n' + "sunday,$1.00,2,1\n" * 9
    found = preview(Segmentation, tmp_path / "rows.csv", rows)
    assert found["rows"][:2] == [
        {"x5": "monday", "x12": "$5,547.78", "x44": 0.5},
        {"x5": None, "x12": None, "x44": None},
    ]
    assert len(found["rows"]) == uploads.PREVIEW_ROWS
    assert len(read_rows(json.dumps({"data": found["rows"]}).encode()).features()) == uploads.PREVIEW_ROWS
    used = {column.name for column in Segmentation.inputs if column.used}
    assert set(found["missing"]) == used - {"x5", "x12", "x44"}


def test_a_preview_tells_faults_as_an_upload_does(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="none of the columns text"):
        preview(Sentiment, tmp_path / "rows.csv", "other\n1\n")
    with pytest.raises(InvalidInputError, match="number") as caught:
        preview(Segmentation, tmp_path / "rows.csv", "x44\n1\nmuch\n")
    assert caught.value.location == ("file", "data", 1, "x44")


def test_an_upload_that_is_cancelled_ends_with_its_thread(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = threading.Event(), threading.Event()
    ended: list[str] = []

    def slow(*_: Any) -> Iterator[Any]:
        begun.set()
        may_end.wait(30)
        ended.append("thread")
        yield {"text": np.array(["a"], object)}

    monkeypatch.setattr(uploads, "read_columns", slow)

    async def use() -> None:
        request: Any = SimpleNamespace(file=texts)
        handler: Any = upload_route(Sentiment).handler
        task: asyncio.Task[Any] = asyncio.create_task(handler(Lengths, request, lengths))
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["thread"]

    asyncio.run(use())


def test_the_files_of_an_archive_are_named(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("folder/b.jpg", b"12")
        archive.writestr("a.jpg", b"1")
    path = tmp_path / "pictures.zip"
    path.write_bytes(content.getvalue())

    async def infer(items: Collection[Any]) -> Array:
        return np.array([len(item.data) for item in items])

    found = answer(ImageClassifier, path, infer)
    assert (found.file, found.label) == (["folder/b.jpg", "a.jpg"], [2, 1])
