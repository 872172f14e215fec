"""The cases: what is compared, under which load, and which ratios are required."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.compare.assets import Assets, entry
from benchmarks.compare.loads import (
    CUSTOMER,
    MANY_CUSTOMERS,
    MANY_TUMOURS,
    MLSERVER_TUMOUR,
    MLSERVER_TUMOURS,
    PICTURE,
    ROWS,
    SOME_CUSTOMERS,
    TEXT,
    TEXT_TENSORS,
    TUMOUR,
    TUMOUR_TENSORS,
    WireFormat,
    every_new,
    mostly_known,
)
from loadtest.protocols import GRPC, PREDICT, V2_BINARY, V2_JSON

QUICK_CONNECTIONS = (10,)
TIFFIN = "tiffin"

# Tiffin's home, and the models of peers by engine.
Models = tuple[Path, dict[str, Path]]


@dataclass(frozen=True)
class RatioLimit:
    """A limit on the ratio of Tiffin's figure to a peer's: a minimum for requests per second, otherwise a maximum.

    Tiffin's figure is that by `protocol`.
    """

    peer: str
    figure: str
    limit: float
    protocol: str = PREDICT

    @property
    def connections(self) -> int:
        """The number of connections at which the figure is measured; 0 if it does not depend on them."""
        connections = self.figure.rpartition("_")[2]
        return int(connections) if connections.isdigit() else 0

    def reached(self, ratio: float) -> bool:
        """Return whether the ratio keeps to the limit."""
        return ratio >= self.limit if self.figure.startswith("per_second") else ratio <= self.limit


@dataclass(frozen=True)
class Case:
    """A load, the model that Tiffin serves under it (all when empty), and the peers with their engine.

    `most_per_second` is more than any server answers, so that no request is sent twice. `tolerance` is how far a
    peer's score may be from Tiffin's: int8 and float32 differ, the same graph hardly. `quick_form` is used in place
    of `form` when speed does not matter, for smaller requests.
    """

    title: str
    model: str
    models: Callable[[Path, Assets], Models]
    form: WireFormat
    peers: tuple[str, ...]
    engine: str
    limits: tuple[RatioLimit, ...]
    connections: tuple[int, ...] = (10, 64)
    numbers: Callable[[int], int] = every_new
    most_per_second: int = 3_000
    tolerance: float = 1e-3
    with_redis: bool = False
    kind: str = "load"
    optional: bool = False
    quick_form: WireFormat | None = None
    other_forms: tuple[WireFormat, ...] = ()
    peer_form: WireFormat | None = None
    rows: int = 1
    different: int = 0

    def quick(self) -> Case:
        """Return this case with a single load and no limits on the ratios."""
        return replace(self, connections=QUICK_CONNECTIONS, limits=(), form=self.quick_form or self.form)


def distilbert(home: Path, assets: Assets) -> Models:
    """Return models of DistilBERT's shape with seeded random weights."""
    folder = assets.of("distilbert")
    return folder / "home", {"torch": folder / "torch", "onnx": entry(folder / "home", "sentiment")}


def default(home: Path, assets: Assets) -> Models:
    """Return the text classifier that Tiffin ships."""
    return home, {"torch": assets.of("sentiment") / "torch", "onnx": entry(home, "sentiment")}


def tabular(home: Path, assets: Assets) -> Models:
    """Return the estimators that Tiffin's graphs are made from."""
    return home, {"": assets.of("tabular")}


def resnet(home: Path, assets: Assets) -> Models:
    """Return models of ResNet-50's shape with seeded random weights."""
    own = assets.of("resnet") / "home"
    return own, {"onnx": entry(own, "image")}


def tumours(home: Path, assets: Assets) -> Models:
    """Return the breast cancer model that Tiffin ships, and the ensemble that its graph is made from."""
    return home, {"sklearn": assets.of("tabular"), "onnx": entry(home, "breast_cancer")}


def tiffin_by(protocol: str) -> str:
    """Return the name of Tiffin's results by a protocol."""
    return TIFFIN if protocol == PREDICT else f"{TIFFIN} {protocol}"


def limits(peer: str, figures: dict[str, float]) -> tuple[RatioLimit, ...]:
    """Return the limits against a peer, given by figure."""
    return tuple(RatioLimit(peer, figure, limit) for figure, limit in figures.items())


BATCHING = ("litserve_text", "bentoml_text", "mlserver_text")
ALL_TEXT = ("fastapi_text", *BATCHING)


def throughput(least: float) -> dict[str, float]:
    """Return the same limit on requests per second for 10 and for 64 connections."""
    return {"per_second_10": least, "per_second_64": least}


CASES: dict[str, Case] = {
    "text_new": Case(
        title="sentiment, DistilBERT's shape, every text new, peers as documented",
        model="sentiment",
        models=distilbert,
        form=TEXT,
        peers=ALL_TEXT,
        engine="torch",
        limits=(
            *limits("fastapi_text", {**throughput(5), "p99_10": 0.25, "p99_64": 0.25}),
            *limits("litserve_text", throughput(3.8)),
            *limits("bentoml_text", throughput(5.5)),
            *limits("mlserver_text", throughput(5.5)),
        ),
        # The head's random weights are large, and so is the effect of int8.
        tolerance=0.25,
    ),
    "text_onnx": Case(
        title="sentiment, DistilBERT's shape, every text new, all on Tiffin's ONNX file",
        model="sentiment",
        models=distilbert,
        form=TEXT,
        peers=ALL_TEXT,
        engine="onnx",
        limits=tuple(limit for peer in BATCHING for limit in limits(peer, {**throughput(1.15), "p50_1": 0.9})),
        connections=(1, 10, 64),
    ),
    "default_new": Case(
        title="sentiment, Tiffin's own model, every text new, peers as documented",
        model="sentiment",
        models=default,
        form=TEXT,
        peers=ALL_TEXT,
        engine="torch",
        limits=(),
        tolerance=0.1,
        optional=True,
    ),
    "default_onnx": Case(
        title="sentiment, Tiffin's own model, every text new, all on its ONNX file",
        model="sentiment",
        models=default,
        form=TEXT,
        peers=ALL_TEXT,
        engine="onnx",
        limits=(),
        connections=(1, 10, 64),
        optional=True,
    ),
    "text_known": Case(
        title="sentiment, Tiffin's own model, 95 % of the texts known",
        model="sentiment",
        models=default,
        form=TEXT,
        peers=("fastapi_text",),
        engine="torch",
        limits=limits("fastapi_text", {"per_second_10": 10, "p99_10": 0.2}),
        connections=(10,),
        numbers=mostly_known,
        most_per_second=20_000,
        tolerance=0.1,
        with_redis=True,
    ),
    "breast_cancer": Case(
        title="breast_cancer, every row new",
        model="breast_cancer",
        models=tabular,
        form=TUMOUR,
        peers=("fastapi_tabular",),
        engine="",
        limits=limits("fastapi_tabular", throughput(6)),
        most_per_second=20_000,
    ),
    "segmentation": Case(
        title="segmentation, one new row",
        model="segmentation",
        models=tabular,
        form=CUSTOMER,
        peers=("fastapi_tabular",),
        engine="",
        limits=limits("fastapi_tabular", throughput(12)),
        most_per_second=6_000,
    ),
    "segmentation_rows": Case(
        title="segmentation, 10 000 new rows in one request",
        model="segmentation",
        models=tabular,
        form=MANY_CUSTOMERS,
        peers=("fastapi_tabular",),
        engine="",
        limits=limits("fastapi_tabular", {"seconds": 0.2}),
        kind="single",
        quick_form=SOME_CUSTOMERS,
    ),
    "image": Case(
        title="image, ResNet-50's shape, every image new, the same ONNX file",
        model="image",
        models=resnet,
        form=PICTURE,
        peers=("fastapi_image",),
        engine="onnx",
        limits=limits("fastapi_image", {"per_second_10": 1.2, "p99_10": 1}),
        connections=(10,),
        most_per_second=300,
        tolerance=0.01,
    ),
    "protocols_text": Case(
        title="sentiment, Tiffin's own model, every text new, by protocol, all on its ONNX file",
        model="sentiment",
        models=default,
        form=TEXT,
        other_forms=tuple(TEXT_TENSORS.values()),
        peers=("mlserver_text",),
        engine="onnx",
        limits=(),
    ),
    "protocols_row": Case(
        title="breast_cancer, every row new, by protocol, peers as documented",
        model="breast_cancer",
        models=tumours,
        form=TUMOUR,
        other_forms=tuple(TUMOUR_TENSORS.values()),
        peers=("mlserver_tabular",),
        peer_form=MLSERVER_TUMOUR,
        engine="sklearn",
        limits=(),
        most_per_second=8_000,
    ),
    "protocols_rows": Case(
        title=f"breast_cancer, {ROWS:,} rows in one request, by protocol, peers as documented",
        model="breast_cancer",
        models=tumours,
        form=MANY_TUMOURS[V2_JSON],
        other_forms=(MANY_TUMOURS[V2_BINARY], MANY_TUMOURS[GRPC]),
        peers=("mlserver_tabular",),
        peer_form=MLSERVER_TUMOURS,
        engine="sklearn",
        limits=(RatioLimit("mlserver_tabular", "per_second_10", 5, V2_BINARY),),
        connections=(10,),
        rows=ROWS,
        different=300,
    ),
    "protocols_rows_onnx": Case(
        title=f"breast_cancer, {ROWS:,} rows in one request, all on Tiffin's ONNX file",
        model="breast_cancer",
        models=tumours,
        form=MANY_TUMOURS[V2_JSON],
        other_forms=(MANY_TUMOURS[V2_BINARY],),
        peers=("mlserver_tabular",),
        peer_form=MLSERVER_TUMOURS,
        engine="onnx",
        limits=(),
        connections=(10,),
        rows=ROWS,
        different=300,
    ),
    "memory": Case(
        title="memory of Tiffin with all four models, against the text peer with one",
        model="",
        models=default,
        form=TEXT,
        peers=("fastapi_text",),
        engine="torch",
        limits=limits("fastapi_text", {"memory_bytes": 1}),
        tolerance=0.1,
        kind="memory",
    ),
}
