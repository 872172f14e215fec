"""The settings and their table in docs/operate.md."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from limits import parse
from pydantic import ValidationError

import models
from serving import settings
from serving.settings import Settings, available_cores, bound_cores, faults
from tests.support import ROOT


def test_every_setting_stands_in_the_docs_with_its_description() -> None:
    page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| [^|]* \| ([^|]*) \|$", page, re.MULTILINE))
    assert rows == {name.upper(): field.description for name, field in Settings.model_fields.items()}


def test_connections_are_kept_longer_than_load_balancers_keep_them() -> None:
    # Google's keep them for 600 seconds, those of other clouds for less.
    assert Settings().keep_alive_seconds > 600


def test_all_models_are_served_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "")
    assert Settings().models == models.names()


def test_models_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "sentiment, image,")
    assert Settings().models == ["sentiment", "image"]


def test_an_unknown_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "sentiment,nonsense")
    with pytest.raises(ValidationError, match="no model 'nonsense'; models/ has breast_cancer"):
        Settings()


@pytest.mark.parametrize(("name", "value"), [("WORKERS", "0"), ("TIMEOUT_SECONDS", "-1"), ("ACCESS_LOG", "perhaps")])
def test_a_bad_value_names_its_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_api_keys_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "one, two,")
    assert Settings().api_keys == ["one", "two"]


def test_commas_alone_do_not_admit_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", " ,,")
    with pytest.raises(ValidationError, match="holds no key"):
        Settings()


def test_commas_alone_name_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", ",")
    with pytest.raises(ValidationError, match="names no model; models/ has breast_cancer"):
        Settings()


def test_no_key_is_needed_by_default() -> None:
    settings = Settings()
    assert (settings.api_keys, settings.api_keys_file) == ([], None)


def test_a_file_of_keys_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("API_KEYS_FILE", str(tmp_path / "absent"))
    with pytest.raises(ValidationError, match="absent cannot be read: No such file"):
        Settings()


def test_a_file_of_keys_that_can_be_read_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("secret\n")
    monkeypatch.setenv("API_KEYS_FILE", str(file))
    assert Settings().api_keys_file == file


@pytest.mark.parametrize(
    ("content", "fault"), [(b"\r\n", "holds no keys"), ("secret".encode("utf-16-le"), "is not text in UTF-8")]
)
def test_a_file_without_keys_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, fault: str
) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    monkeypatch.setenv("API_KEYS_FILE", str(file))
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert faults(raised.value) == [f"API_KEYS_FILE={file}: {file} {fault}"]


def test_no_proxy_is_trusted_by_default() -> None:
    assert Settings().trusted_proxies == []


def test_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, 192.168.1.5,::1, fd00::/8,")
    assert [str(found) for found in Settings().trusted_proxies] == [
        "10.0.0.0/8",
        "192.168.1.5/32",
        "::1/128",
        "fd00::/8",
    ]


@pytest.mark.parametrize("value", ["*", "gateway", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/8 192.168.1.5"])
def test_what_is_no_network_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", value)
    with pytest.raises(ValidationError, match="must be addresses and networks, such as"):
        Settings()


def test_a_rate_limit_has_a_number_and_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT", "100/minute")
    assert Settings().rate_limit == parse("100 per minute")


def test_a_rate_limit_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT", "often")
    with pytest.raises(ValidationError, match="rate_limit"):
        Settings()


LIMITS = {
    "none": ({}, 8),
    "2-unlimited": ({"cpu.max": "max 100000\n"}, 8),
    "2": ({"cpu.max": "200000 100000\n"}, 2),
    "2-one-and-a-half": ({"cpu.max": "150000 100000\n"}, 2),
    "2-half": ({"cpu.max": "50000 100000\n"}, 1),
    "2-more-than-bound": ({"cpu.max": "1600000 100000\n"}, 8),
    "2-its-own": ({"pods/one/cpu.max": "300000 100000\n"}, 3),
    "2-of-a-parent": ({"pods/cpu.max": "200000 100000\n", "pods/one/cpu.max": "max 100000\n"}, 2),
    "2-the-smallest": ({"pods/cpu.max": "400000 100000\n", "pods/one/cpu.max": "300000 100000\n"}, 3),
    "2-of-others": ({"other/cpu.max": "200000 100000\n"}, 8),
    "1-unlimited": ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    "1": ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    "1-of-a-parent": ({"cpu/pods/cpu.cfs_quota_us": "300000\n", "cpu/pods/cpu.cfs_period_us": "100000\n"}, 3),
}


@pytest.mark.parametrize(("files", "cores"), LIMITS.values(), ids=LIMITS)
def test_cores_are_those_of_the_cgroups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(settings, "bound_cores", lambda: 8)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="ascii")
    (tmp_path / "own").write_text("3:cpuset:/\n2:cpuacct,cpu:/pods/one\n0::/pods/one\n", encoding="ascii")
    assert available_cores(tmp_path, tmp_path / "own") == cores


@pytest.mark.parametrize("own", ["0::/../../outside\n", "0::/not/mounted\n"])
def test_a_cgroup_that_is_not_mounted_sets_no_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str) -> None:
    monkeypatch.setattr(settings, "bound_cores", lambda: 8)
    (tmp_path / "own").write_text(own, encoding="ascii")
    assert available_cores(tmp_path, tmp_path / "own") == 8


def test_cores_are_those_that_the_process_is_bound_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 4, raising=False)
    assert bound_cores() == 4
    monkeypatch.delattr(os, "process_cpu_count")
    assert bound_cores() == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    assert bound_cores() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert bound_cores() == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIMEOUT_SECONDS", "1e308"),
        ("BODY_TIMEOUT_SECONDS", "inf"),
        ("CACHE_TTL_SECONDS", "1e300"),
        ("SESSION_THREADS", "100000000000000000000"),
        ("WORKERS", "1000000"),
        ("RATE_LIMIT", "0/minute"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    (line,) = faults(caught.value)
    assert line.startswith(f"{name}={value}: must be")
