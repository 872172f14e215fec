"""The paths of the default model that do without its name, as clients of a server with one model know them."""

from __future__ import annotations

from serving.http.uploads import routes_of

# The course's name for a prediction of several texts.
BULK_PREDICT = "bulk-predict"


def aliases_of(name: str | None) -> dict[str, str]:
    """Return the aliases of the paths of a model, by alias; none without a model.

    They are /<route> for each route that it declares, /uploadfile, /preview, /explain and /info, and for its predict
    /predict/<model> and /bulk-predict; the latter is for its route bulk_predict where it has one.
    """
    if name is None:
        return {}
    routes = {route.name for route in routes_of(name)} | {"info"}
    found = {f"/{route}": f"/{name}/{route}" for route in routes}
    bulk = BULK_PREDICT.replace("-", "_")
    return found | {
        f"/predict/{name}": f"/{name}/predict",
        f"/{BULK_PREDICT}": f"/{name}/{bulk if bulk in routes else 'predict'}",
    }
