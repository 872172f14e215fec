"""Other paths of routes, as clients of older servers know them."""

from __future__ import annotations

from collections.abc import Iterable

from serving.http.uploads import routes_of

# The course's name for a prediction of several texts.
BULK_PREDICT = "bulk-predict"


def aliases_of(names: Iterable[str], default_model: str | None) -> dict[str, str]:
    """Return the aliases of the models' paths, by alias.

    They are /predict/<model> for the predict of each model. Those of the default model do without its name: /<route>
    for each route that it declares, /uploadfile, /preview, /explain and /info, and /bulk-predict for its predict, or
    for its route bulk_predict where it has one.
    """
    found = {f"/predict/{name}": f"/{name}/predict" for name in names}
    if default_model is None:
        return found
    routes = {route.name for route in routes_of(default_model)} | {"info"}
    bulk = BULK_PREDICT.replace("-", "_")
    found |= {f"/{route}": f"/{default_model}/{route}" for route in routes}
    return found | {f"/{BULK_PREDICT}": f"/{default_model}/{bulk if bulk in routes else 'predict'}"}
