"""Models' columns: what follows from their types, and the validation of values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import annotated_types
import numpy as np
import pytest
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

import models
from models.model import Array, Column, ColumnNames, InvalidInputError, check, check_outputs

Positive = Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False)]
SIZE = Column("size", Positive)
SHARE = Column("share", Annotated[float, Field(allow_inf_nan=False)] | None)
NAME = Column("name", Annotated[str, Field(min_length=1, max_length=3)])
COUNT = Column("count", int)
INPUTS = (SIZE, SHARE, NAME)


@pytest.mark.parametrize(
    ("type_", "datatype", "optional", "is_list"),
    [
        (float, "FP64", False, False),
        (float | None, "FP64", True, False),
        (Positive, "FP64", False, False),
        (Annotated[Positive | None, BeforeValidator(str)], "FP64", True, False),
        (int, "INT64", False, False),
        (Literal[0, 1], "INT64", False, False),
        (bool, "BOOL", False, False),
        (str | None, "BYTES", True, False),
        (Literal["M", "B"], "BYTES", False, False),
        (bytes, "BYTES", False, False),
        (list[float], "FP64", False, True),
    ],
)
def test_a_column_is_described_by_its_type(type_: Any, datatype: str, optional: bool, is_list: bool) -> None:
    column = Column("a", type_)
    assert (column.datatype, column.optional, column.is_list) == (datatype, optional, is_list)


def test_numbers_in_a_notation_of_their_own_are_sent_as_text() -> None:
    assert Column("a", float, notation=True).datatype == "BYTES"


@pytest.mark.parametrize("type_", [int | str, dict[str, Any]])
def test_a_column_of_several_types_or_of_none_is_a_mistake(type_: Any) -> None:
    with pytest.raises(TypeError, match="column a"):
        _ = Column("a", type_).base


@pytest.mark.parametrize("name", models.names())
def test_each_model_has_columns_with_examples_that_fit(name: str) -> None:
    model = models.find(name)
    examples = {column.name: np.array([column.example], object) for column in model.inputs if column.used}
    assert check(examples, model.inputs).keys() == examples.keys()
    assert len(model.example_items()) == 1
    for column in model.outputs:
        assert column.adapter.validate_python([column.example])


def half(value: float) -> float:
    """Refuse a number that is no multiple of a half."""
    if value % 0.5:
        raise ValueError("no half")
    return value


def columns(**changes: Any) -> dict[str, Array]:
    """Return the columns of two rows, with `changes` to some; None removes a column."""
    values: dict[str, Any] = {"size": [1.0, 2.0], "share": [0.5, np.nan], "name": np.array(["a", "b"], object)}
    return {name: np.asarray(value) for name, value in (values | changes).items() if value is not None}


def test_checked_columns_have_the_dtypes_of_their_types() -> None:
    checked = check(columns(size=np.array([1, 2], np.int32), other=[1, 2]), INPUTS)
    assert {name: values.dtype for name, values in checked.items()} == {
        "size": np.float64,
        "share": np.float64,
        "name": np.object_,
    }
    assert np.isnan(checked["share"][1])


def test_a_column_that_may_be_missing_may_be_left_out() -> None:
    assert np.isnan(check(columns(share=None), INPUTS)["share"]).all()


def test_a_column_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidInputError, match="size is missing") as caught:
        check(columns(size=None), INPUTS)
    assert (caught.value.location, caught.value.kind) == (("size",), "missing")


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="1 and 2 rows"):
        check(columns(size=[1.0]), INPUTS)


@pytest.mark.parametrize(
    ("name", "values", "row", "kind"),
    [
        ("size", [1.0, 0.0], 1, "greater_than"),
        ("size", [101.0, 1.0], 0, "less_than_equal"),
        ("size", [1.0, np.nan], 1, "finite_number"),
        ("size", [np.inf, 1.0], 0, "finite_number"),
        ("size", [True, False], 0, "float_type"),
        ("size", np.array(["1", "2"], object), 0, "float_type"),
        ("share", [np.inf, 1.0], 0, "finite_number"),
        ("name", np.array(["a", ""], object), 1, "string_too_short"),
        ("name", np.array(["abcd", "a"], object), 0, "string_too_long"),
        ("name", np.array(["a", None], object), 1, "string_type"),
        ("name", [1.0, 2.0], 0, "string_type"),
    ],
)
def test_the_first_value_that_does_not_fit_is_named(name: str, values: Any, row: int, kind: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check(columns(**{name: values}), INPUTS)
    assert (caught.value.location, caught.value.kind) == ((row, name), kind)


def test_a_validator_of_the_model_s_own_sees_every_value() -> None:
    doubled = Column("a", Annotated[float, BeforeValidator(lambda value: 2 * value)])
    assert doubled.checked(np.array([1.0, 2.0])).tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    "constraint", [Field(multiple_of=0.5), annotated_types.Predicate(lambda value: value != 0.3), AfterValidator(half)]
)
def test_a_constraint_of_any_kind_holds(constraint: Any) -> None:
    column = Column("a", Annotated[float, constraint])
    assert column.checked(np.array([1.0, 0.5])).tolist() == [1.0, 0.5]
    with pytest.raises(InvalidInputError) as caught:
        column.checked(np.array([1.0, 0.3]))
    assert caught.value.location == (1, "a")


@pytest.mark.parametrize("values", [[1, 2], [1.0, 2.0], np.array([1, 2], np.uint8)])
def test_whole_numbers_are_taken_in_any_dtype(values: Any) -> None:
    checked = COUNT.checked(np.asarray(values))
    assert checked.dtype == np.int64
    assert checked.tolist() == [1, 2]


def test_a_fraction_is_no_whole_number() -> None:
    with pytest.raises(InvalidInputError):
        COUNT.checked(np.array([1.0, 1.5]))


def test_the_fields_of_a_row_s_schema_are_its_columns() -> None:
    class Flower(BaseModel):
        length: Positive
        colour: str | None = None

    class Garden(models.Model[Array]):
        input = Flower

    assert [(column.name, column.datatype, column.optional) for column in Garden.inputs] == [
        ("length", "FP64", False),
        ("colour", "BYTES", True),
    ]
    with pytest.raises(InvalidInputError):
        Garden.inputs[0].checked(np.array([0.0]))


OUTPUTS = (Column("label", str), Column("probabilities", list[float]))


def test_outputs_that_are_as_declared_pass() -> None:
    check_outputs({"label": np.array(["a", "b"], object), "probabilities": np.ones((2, 3))}, OUTPUTS, 2)


@pytest.mark.parametrize(
    ("outputs", "fault"),
    [
        ({"label": np.ones(2)}, "outputs declares label, probabilities"),
        ({"label": np.ones((2, 1)), "probabilities": np.ones((2, 3))}, r"label of shape \(2, 1\)"),
        ({"label": np.ones(2), "probabilities": np.ones(2)}, r"probabilities of shape \(2,\)"),
        ({"label": np.ones(1), "probabilities": np.ones((2, 3))}, r"label of shape \(1,\) for 2 items"),
    ],
)
def test_outputs_that_are_not_as_declared_are_named(outputs: dict[str, Array], fault: str) -> None:
    with pytest.raises(TypeError, match=fault):
        check_outputs(outputs, OUTPUTS, 2)


class TestNames:
    names = ColumnNames([Column("Age", float), Column("sepal_length", float), Column("id", int, used=False)])

    @pytest.mark.parametrize(
        ("name", "column"), [("Age", "Age"), ("age", "Age"), (" Sepal_Length\t", "sepal_length"), ("sepal", None)]
    )
    def test_a_column_is_found_whatever_its_case_and_spaces(self, name: str, column: str | None) -> None:
        assert self.names.find(name) == column

    def test_columns_that_are_not_used_have_no_position(self) -> None:
        assert self.names.positions(["id", "age", "other"]) == {"Age": 1}

    @pytest.mark.parametrize("name", ["AGE", "sepal_Length", "sepal_length ", "sepa\u212a", "s\\u0065pal_length"])
    def test_odd_names_are_seen_in_json(self, name: str) -> None:
        assert self.names.has_odd_names(f'[{{"other": 1, "{name}": 2}}]'.encode())

    def test_names_that_none_of_ours_can_be_meant_by_are_not_odd(self) -> None:
        assert not self.names.has_odd_names(b'[{"Weight": 1, "sepal_length": 2, "": 3}]')
