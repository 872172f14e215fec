"""What the comparison computes and sends; the peers themselves run in `make compare`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import environments
from benchmarks.compare.assets import Assets
from benchmarks.compare.cases import BATCHING, CASES, TIFFIN, RatioLimit, tiffin_by
from benchmarks.compare.loads import NEW_EVERY, POOL, WIRE_FORMATS, WireFormat, differences, mostly_known
from benchmarks.compare.measure import Bodies, Plan, ServerResult, planned, ratios
from benchmarks.compare.report import add_result, draw, panels, table
from benchmarks.compare.servers import PEERS
from benchmarks.grpc_load import read_bodies
from benchmarks.wrk import write_bodies
from loadtest import inputs

PLAN = Plan(repetitions=1, seconds=1, warm_up_seconds=1, idle_seconds=0)


def measured(server: str, **figures: float) -> ServerResult:
    """Return the result of a server with these figures."""
    engine = "" if server.startswith(TIFFIN) else "torch"
    return ServerResult(server, engine, {"cold_start_seconds": 1, "memory_bytes": 2**20, "redis_bytes": 0, **figures})


def level(per_second: float, p99: float) -> dict[str, float]:
    """Return the figures of a load over 10 connections."""
    return {
        "per_second_10": per_second, "p50_10": p99, "p99_10": p99, "cpu_per_1000_10": 1, "generator_share_10": 0,
    }  # fmt: skip


def test_medians_are_kept_beside_the_repetitions() -> None:
    found = measured(TIFFIN)
    found.add("p50_10", [3.0, 1.0, 2.0])
    assert found.figures["p50_10"] == 2
    assert found.repetitions["p50_10"] == [3, 1, 2]


def test_ratios_are_compared_with_their_limits() -> None:
    case = CASES["text_known"]
    found = [measured(TIFFIN, **level(1_000, 0.02)), measured("fastapi_text", **level(200, 0.2))]
    assert [(row["found"], row["reached"]) for row in ratios(case, found)] == [(5, False), (pytest.approx(0.1), True)]


def test_a_void_server_reaches_nothing() -> None:
    found = [measured(TIFFIN, **level(1_000, 0.02)), measured("fastapi_text")]
    found[1].void = "3 of 10 requests failed:\nand more"
    rows = list(ratios(CASES["text_known"], found))
    assert [(row["found"], row["reached"]) for row in rows] == [(None, False)] * 2
    lines = "\n".join(table("text_known", found, rows))
    assert "void: 3 of 10 requests failed:\n" in lines
    assert lines.count("found void") == 2


@pytest.mark.parametrize(("ratio", "reached"), [(1.2, True), (0.8, False)])
def test_speed_is_at_least_and_time_at_most(ratio: float, reached: bool) -> None:
    assert RatioLimit("p", "per_second_10", 1).reached(ratio) is reached
    assert RatioLimit("p", "p99_10", 1).reached(ratio) is not reached


def test_every_limit_is_on_a_peer_and_a_load_of_its_case() -> None:
    for case in CASES.values():
        for limit in case.limits:
            assert limit.peer in case.peers
            assert limit.connections in (0, *case.connections)


def test_a_quick_case_has_one_load_and_no_limits() -> None:
    case = CASES["text_onnx"].quick()
    assert (case.connections, case.limits) == ((10,), ())
    assert CASES["segmentation_rows"].quick().form is not CASES["segmentation_rows"].form


def test_a_server_that_several_cases_need_is_started_once_and_tiffin_before_its_peers(tmp_path: Path) -> None:
    def models(*_: object) -> tuple[Path, dict[str, Path]]:
        return tmp_path / "home", {"torch": tmp_path / "torch", "onnx": tmp_path / "onnx"}

    cases = [replace(CASES[name], models=models) for name in ("text_new", "text_onnx", "default_new", "text_known")]
    tasks = planned(cases, PLAN, tmp_path, Assets(tmp_path), tmp_path)
    assert {task.bodies.first for of_server in tasks.values() for task in of_server} == {0, 2e7, 4e7, 6e7}
    assert [(start.name, start.engine, start.with_redis, len(of_server)) for start, of_server in tasks.items()] == [
        (TIFFIN, "", False, 3),
        (TIFFIN, "", True, 1),
        ("fastapi_text", "torch", False, 3),
        *((peer, "torch", False, 2) for peer in BATCHING),
        *((peer, "onnx", False, 1) for peer in ("fastapi_text", *BATCHING)),
    ]


def test_tiffin_is_asked_by_every_protocol_each_time_with_other_requests(tmp_path: Path) -> None:
    def models(*_: object) -> tuple[Path, dict[str, Path]]:
        return tmp_path / "home", {"sklearn": tmp_path / "sklearn"}

    case = replace(CASES["protocols_row"], models=models)
    ours, theirs = planned([case], PLAN, tmp_path, Assets(tmp_path), tmp_path).values()
    assert [task.measured.server for task in ours] == ["tiffin", "tiffin v2-json", "tiffin v2-binary", "tiffin grpc"]
    assert len({task.bodies.first for task in ours}) == 4
    (task,) = theirs
    # MLServer gets those of Tiffin's own route, as Tiffin gets them by v2.
    assert task.bodies is ours[0].bodies
    assert task.form.request(5) == ours[1].form.request(5)


def test_few_requests_with_many_rows_meet_caches_that_cannot_hold_them(tmp_path: Path) -> None:
    def models(*_: object) -> tuple[Path, dict[str, Path]]:
        return tmp_path / "home", {"sklearn": tmp_path / "sklearn"}

    case = replace(CASES["protocols_rows"], models=models, different=3)
    (start, tasks), _ = planned([case], PLAN, tmp_path, Assets(tmp_path), tmp_path).items()
    assert start.small_caches
    binary = tasks[1]
    assert binary.bodies.of(binary.form, 0) == binary.bodies.of(binary.form, 5)
    assert len(read_bodies(binary.bodies.of(binary.form, 0))) == 3


def test_a_limit_may_be_on_one_of_the_protocols() -> None:
    case = CASES["protocols_rows"]
    found = [measured(tiffin_by(p), **level(speed, 0.1)) for p, speed in (("v2-json", 10), ("v2-binary", 60))]
    (row,) = ratios(case, [*found, measured("mlserver_tabular", **level(10, 0.1))])
    assert (row["found"], row["reached"], row["protocol"]) == (6, True, "v2-binary")
    lines = "\n".join(table("protocols_rows", found, [row]))
    assert "60,000.0 rows/s" in lines
    assert "6.00 x the requests/s of Tiffin, v2-json" in lines


def test_what_peers_with_torch_share_is_pinned_alike_by_each() -> None:
    shared = environments.shared_pins()
    assert {"torch", "transformers", "numpy"} <= shared.keys()
    for peer in ("fastapi_text", *BATCHING):
        assert shared.items() <= environments.pins(peer).items()


def test_95_percent_are_known() -> None:
    numbers = [mostly_known(position) for position in range(10_000)]
    assert numbers == [mostly_known(position) for position in range(10_000)]
    new = [number for number in numbers if number >= POOL]
    assert len(new) == len(set(new)) == len(numbers) // NEW_EVERY
    assert set(numbers) - set(new) == set(range(POOL))


def test_no_phase_has_a_number_of_another(tmp_path: Path) -> None:
    def counted(number: int) -> inputs.Request:
        return inputs.Request("/", inputs.JSON, b"n%d!" % number)

    bodies = Bodies(tmp_path, CASES["image"], PLAN)
    files = [bodies.of(WireFormat(counted, list), phase).read_bytes() for phase in range(3)]
    numbers = [int(number) for file in files for number in re.findall(rb"n(\d+)!", file)]
    assert numbers == list(range(3 * bodies.count))


@pytest.mark.parametrize("peer", WIRE_FORMATS)
def test_a_peer_is_asked_what_tiffin_is_asked(peer: str) -> None:
    body = WIRE_FORMATS[peer].request(7).body
    asked = inputs.image(7).body if peer == "fastapi_image" else json.dumps(inputs.text(7)).encode()
    assert asked in body


def test_answers_are_compared_by_label_and_score() -> None:
    ours = [{"A": 0.9, "B": 0.1}, {"A": 0.51, "B": 0.49}]
    assert not list(differences(ours, [{"A": 0.88, "B": 0.12}, {"A": 0.49, "B": 0.51}], 0.05))
    assert len(list(differences(ours, [{"A": 0.7, "B": 0.3}, {"A": 0.2, "B": 0.8}], 0.05))) == 2
    with pytest.raises(ValueError, match="shorter"):
        list(differences(ours, ours[:1], 0.05))


def test_bodies_of_whatever_bytes_stand_behind_their_lengths(tmp_path: Path) -> None:
    bodies = [b"first\r\nsecond\n", bytes(range(256)), b"", b"12\n34"]
    path = write_bodies(tmp_path / "bodies", (inputs.Request("/", inputs.JSON, body) for body in bodies))
    assert read_bodies(path) == bodies


def test_how_much_of_a_body_is_json_stands_beside_its_length(tmp_path: Path) -> None:
    path = write_bodies(tmp_path / "bodies", [inputs.Request("/", "", b"{}abc", 2), inputs.Request("/", "", b"{}")])
    assert path.read_bytes() == b"5 2\n{}abc2\n{}"
    assert read_bodies(path) == [b"{}abc", b"{}"]


@pytest.mark.parametrize("peer", PEERS)
def test_all_that_a_peer_needs_is_pinned(peer: str) -> None:
    lines = (environments.PEERS / f"{peer}.txt").read_text(encoding="utf-8").splitlines()
    needed = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in needed), needed
    assert environments.versions(peer)


def result(*servers: ServerResult) -> dict[str, Any]:
    return {"about": {"cores": 2, "cpu": "some", "repetitions": 3}, "servers": [asdict(server) for server in servers]}


def test_the_picture_shows_each_load_with_tiffin_as_one(tmp_path: Path) -> None:
    found = result(measured(TIFFIN, **level(1_000, 0.02)), measured("fastapi_text", **level(200, 0.2)))
    ((title, bars),) = panels({"text_known": found})
    assert title.endswith("10 connections")
    assert [(share, figure) for _, share, figure in bars] == [(1, "1,000/s"), (0.2, "200/s")]
    draw(tmp_path / "compare.png", {"text_known": found})
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_results_of_other_cases_stay(tmp_path: Path) -> None:
    path = tmp_path / "compare.json"
    add_result(path, "image", {"took_seconds": 1})
    add_result(path, "memory", {"took_seconds": 2})
    assert add_result(path, "image", {"took_seconds": 3}) == {
        "image": {"took_seconds": 3},
        "memory": {"took_seconds": 2},
    }
