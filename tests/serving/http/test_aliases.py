"""The aliases of a model's paths."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

import models
from models.breast_cancer import BreastCancer
from models.model import Array, Infer, route
from serving.http.aliases import aliases_of


def test_predict_may_stand_before_the_name_of_any_model() -> None:
    assert aliases_of(["image", "iris"], None) == {"/predict/image": "/image/predict", "/predict/iris": "/iris/predict"}


@pytest.mark.parametrize("name", models.names())
def test_all_paths_of_a_model_do_without_its_name(name: str) -> None:
    predict = f"/{name}/predict"
    previews = {} if name == "image" else {"/preview": f"/{name}/preview"}
    assert aliases_of([name], name) == previews | {
        "/predict": predict,
        f"/predict/{name}": predict,
        "/bulk-predict": predict,
        "/uploadfile": f"/{name}/uploadfile",
        "/explain": f"/{name}/explain",
        "/info": f"/{name}/info",
    }


class Rows(BaseModel):
    """Several rows."""

    rows: list[float]


class Bulk(BreastCancer):
    """A model with a route for several rows."""

    @route()
    async def bulk_predict(self, request: Rows, infer: Infer[Array]) -> Rows:
        """Answer several rows."""
        return request


def test_a_route_of_the_models_own_is_what_its_bulk_predict_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "find", lambda _: Bulk)
    found = aliases_of(["houses"], "houses")
    assert found["/bulk-predict"] == found["/bulk_predict"] == "/houses/bulk_predict"
    assert found["/predict"] == "/houses/predict"
