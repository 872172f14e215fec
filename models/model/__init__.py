"""The contract between a model and the rest of the project."""

from models.model.classification import CLASSIFICATION, LabelScore, classification, ranking, softmax
from models.model.columns import Array, Column, Columns, InvalidInputError, check, check_outputs
from models.model.contract import Infer, Model, Route, clipped, float_rows, has_plain_rows, route
from models.model.json_bodies import LARGE_BYTES, RAW_ITEMS, UNDECODABLE, stand_in
from models.model.names import ColumnNames, without_escapes
from models.model.views import ShowsPictures, View

__all__ = [
    "CLASSIFICATION",
    "LARGE_BYTES",
    "RAW_ITEMS",
    "UNDECODABLE",
    "Array",
    "Column",
    "ColumnNames",
    "Columns",
    "Infer",
    "InvalidInputError",
    "LabelScore",
    "Model",
    "Route",
    "ShowsPictures",
    "View",
    "check",
    "check_outputs",
    "classification",
    "clipped",
    "float_rows",
    "has_plain_rows",
    "ranking",
    "route",
    "softmax",
    "stand_in",
    "without_escapes",
]
