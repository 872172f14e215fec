"""Tensors as columns of a model."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import BaseModel, Field
from typing_extensions import override

from models.model import Array, Column, Columns, InvalidInputError, Model
from serving.oip.columns import PIECE, check_described, columns_of, items_of, tensors_of
from serving.oip.errors import ProtocolError
from serving.oip.tensors import BYTES, Tensor


class Row(BaseModel):
    """Columns of every kind."""

    size: Annotated[float, Field(ge=0)]
    count: int
    flag: bool
    name: Annotated[str, Field(max_length=5)]
    note: str | None = None
    weight: float | None = None


class Kinds(Model[Array]):
    """A model with columns of every kind."""

    input = Row
    outputs = (Column("sum", float), Column("parts", list[float]), Column("label", str))
    max_items = 4

    @override
    def preprocess(self, item: Array) -> dict[str, Array]:
        return {"x": item}

    @override
    def columns(self, outputs: Array) -> Columns:
        return {}


class Floats(Kinds):
    """A model of floating numbers only."""

    inputs = (Column("a", float), Column("b", float))


class Bounded(Kinds):
    """A model of floating numbers with bounds."""

    inputs = (Column("a", Annotated[float, Field(gt=0, lt=5, allow_inf_nan=False)]), Column("b", float))


class File(Kinds):
    """A model of files."""

    inputs = (Column("file", bytes),)


def tensor(name: str, datatype: str, values: list[Any], shape: tuple[int, ...] | None = None, **rest: Any) -> Tensor:
    """Return a tensor of one axis, unless a shape is given."""
    array: Array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    if datatype != BYTES:
        kinds = {"FP64": np.float64, "FP32": np.float32, "INT32": np.int32, "UINT64": np.uint64, "BOOL": np.bool_}
        array = np.array(values, dtype=kinds[datatype])
    return Tensor(name, datatype, shape or (len(values),), array, rest)


ROW = {
    "size": tensor("size", "FP64", [1.5]),
    "count": tensor("count", "INT32", [3]),
    "flag": tensor("flag", "BOOL", [True]),
    "name": tensor("name", BYTES, [b"abc"]),
}


def checked(tensors: list[Tensor], model: type[Model[Any]]) -> dict[str, Array]:
    """Return the columns of tensors, as a request with them is read."""
    check_described([tensor.description for tensor in tensors], [], model)
    return columns_of(tensors, model)


def read(*changed: Tensor, model: type[Model[Any]] = Kinds, without: str = "") -> dict[str, Array]:
    """Return the columns of ROW with tensors in the place of those of their names."""
    tensors = ROW | {tensor.name: tensor for tensor in changed}
    return checked([tensor for name, tensor in tensors.items() if name != without], model)


def test_each_column_is_a_tensor_and_what_may_be_missing_may_be_left_out() -> None:
    found = {name: values.tolist() for name, values in read().items()}
    assert str(found.pop("weight")) == "[nan]"
    assert found == {"size": [1.5], "count": [3], "flag": [True], "name": ["abc"], "note": [None]}


def test_missing_is_nan_or_an_empty_element() -> None:
    found = read(tensor("weight", "FP32", [np.nan]), tensor("note", BYTES, [b""]))
    assert (str(found["weight"]), found["note"].tolist()) == ("[nan]", [None])


def test_single_values_may_stand_in_rows() -> None:
    assert read(tensor("size", "FP64", [2.5], (1, 1)))["size"].tolist() == [2.5]


@pytest.mark.parametrize("datatype", ["FP32", "INT32", "UINT64"])
def test_numbers_may_be_of_any_datatype_without_loss(datatype: str) -> None:
    assert read(tensor("size", datatype, [3]))["size"].tolist() == [3.0]


def test_base64_is_decoded_where_the_content_type_says_so() -> None:
    content = b"\xff\xd8\0"
    sent = tensor("file", BYTES, [base64.b64encode(content).decode()], content_type="base64")
    assert columns_of([sent], File)["file"].tolist() == [content]
    assert columns_of([tensor("file", BYTES, [content])], File)["file"].tolist() == [content]


def test_long_base64_is_decoded_to_its_end_and_no_further() -> None:
    content = bytes(range(256)) * (PIECE // 256)
    encoded = base64.b64encode(content).decode()
    assert columns_of([tensor("file", BYTES, [encoded], content_type="base64")], File)["file"][0] == content
    ends_early = f"{encoded[: PIECE - 4]}QQ=={encoded}"
    with pytest.raises(InvalidInputError, match="Base64"):
        columns_of([tensor("file", BYTES, [ends_early], content_type="base64")], File)


MATRIX = [tensor("input", "FP32", [1, 2, 3, 4], (2, 2))]
IN_COLUMNS = [tensor("b", "FP64", [2, 4], (2, 1)), tensor("a", "FP32", [1, 3])]


def test_one_tensor_may_have_all_columns_of_numbers() -> None:
    found = columns_of(MATRIX, Floats)
    assert {name: values.tolist() for name, values in found.items()} == {"a": [1.0, 3.0], "b": [2.0, 4.0]}


@pytest.mark.parametrize("tensors", [MATRIX, IN_COLUMNS, [tensor("a", "INT32", [1, 3]), IN_COLUMNS[0]]])
def test_rows_of_numbers_become_items_in_the_order_of_the_columns(tensors: list[Tensor]) -> None:
    items = items_of(tensors, Floats)
    assert isinstance(items, np.ndarray)
    assert (items.dtype, items.tolist()) == (np.float32, [[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize("name", ["a", "b"])
def test_rows_of_numbers_without_a_column_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="is missing"):
        items_of([tensor(name, "FP64", [1.5])], Floats)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.0, 5.0, 6.0])
def test_rows_of_numbers_that_do_not_fit_are_refused_as_their_columns_are(value: float) -> None:
    tensors = [tensor("a", "FP64", [value]), tensor("b", "FP64", [1.0])]
    with pytest.raises(InvalidInputError) as refused:
        items_of(tensors, Bounded)
    with pytest.raises(InvalidInputError) as expected:
        columns_of(tensors, Bounded)
    assert (str(refused.value), refused.value.location) == (str(expected.value), (0, "a"))


@pytest.mark.parametrize(("shape", "datatype"), [((1, 3), "FP32"), ((2, 1), "INT32"), ((1, 2), BYTES)])
def test_the_shape_of_one_tensor_for_all_columns_is_told(shape: tuple[int, ...], datatype: str) -> None:
    values = [1] * (shape[0] * shape[1]) if datatype != BYTES else [b"1"] * 2
    with pytest.raises(ProtocolError, match=re.escape("one tensor of all columns must be [rows, 2], of numbers")):
        checked([tensor("input", datatype, values, shape)], Floats)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ([tensor("size", BYTES, [b"1"])], "size is FP64 and cannot be BYTES"),
        ([tensor("count", "FP64", [1.0])], "count is INT64 and cannot be FP64"),
        ([tensor("flag", "INT32", [1])], "flag is BOOL and cannot be INT32"),
        ([tensor("name", "FP64", [1.0])], "name is BYTES and cannot be FP64"),
        ([tensor("other", "FP64", [1.0])], "the model has no input 'other'; it has size, count, flag, name, note"),
        ([tensor("size", "FP64", [1.0, 2.0], (1, 2))], "the shape of size must be [1] or [1, 1], not [1, 2]"),
        ([tensor("size", "FP64", [1.0, 2.0])], "count has 1 rows, size has 2"),
        ([tensor("name", BYTES, [b"x"], content_type="hex")], "the content_type of name must be one of str, base64"),
    ],
)
def test_what_the_model_does_not_take_is_told(changed: list[Tensor], told: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        read(*changed)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "location"),
    [
        (tensor("size", "FP64", [-1.0]), (0, "size")),
        (tensor("size", "FP64", [np.nan]), (0, "size")),
        (tensor("count", "UINT64", [2**63]), (0, "count")),
        (tensor("name", BYTES, [b"too long"]), (0, "name")),
        (tensor("name", BYTES, [b"\xff"]), (0, "name")),
        (tensor("name", BYTES, ["!"], content_type="base64"), (0, "name")),
    ],
)
def test_a_value_that_does_not_fit_is_named(changed: Tensor, location: tuple[str | int, ...]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read(changed)
    assert refused.value.location == location


def test_a_column_that_must_be_there_is_named() -> None:
    with pytest.raises(InvalidInputError, match="the column count is missing"):
        read(without="count")


def test_no_rows_and_too_many_are_told() -> None:
    with pytest.raises(ProtocolError, match="no rows"):
        checked([tensor("a", "FP64", [])], Floats)
    with pytest.raises(ProtocolError, match="no rows"):
        checked([tensor("input", "FP64", [], (0, 2))], Floats)
    for sent in (tensor("a", "FP64", [1.0] * 5), tensor("input", "FP64", [1.0] * 10, (5, 2))):
        with pytest.raises(InvalidInputError, match="5 rows, at most 4 are allowed"):
            checked([sent], Floats)


def test_an_input_must_not_be_there_twice() -> None:
    with pytest.raises(ProtocolError, match="twice"):
        checked([ROW["size"], ROW["size"]], Kinds)


def test_outputs_are_those_that_are_asked_for_in_the_shape_of_the_inputs() -> None:
    columns = {
        "sum": np.array([1.0, 2.0]),
        "parts": np.array([[1.0, 2.0], [3.0, 4.0]]),
        "label": np.array(["a", "b"], dtype=np.object_),
    }
    flat = tensors_of(columns, Kinds.outputs, [], square=False)
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in flat] == [
        ("sum", "FP64", (2,)),
        ("parts", "FP64", (2, 2)),
        ("label", "BYTES", (2,)),
    ]
    (label,) = tensors_of(columns, Kinds.outputs, ["label"], square=True)
    assert (label.shape, label.values.tolist()) == ((2, 1), ["a", "b"])
