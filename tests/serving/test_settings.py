"""The settings, and their table in docs/operate.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from limits import parse
from pydantic import ValidationError

import models
from serving.setting_faults import SECRET, faults
from serving.setting_types import ModelSettings
from serving.settings import Settings
from serving.variables import NEW, renamed, unknown
from tests.support import ROOT
from tests.support.settings import wrong


def test_every_setting_stands_in_the_docs_with_its_description() -> None:
    page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| [^|]* \| ([^|]*) \|$", page, re.MULTILINE))
    assert rows == {f"TIFFIN_{name.upper()}": field.description for name, field in Settings.model_fields.items()}


def test_connections_are_kept_longer_than_load_balancers_keep_them() -> None:
    # Google's load balancers keep connections for 600 seconds, those of other clouds for less.
    assert Settings().keep_alive_seconds > 600


def test_all_models_are_served_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_MODELS", "")
    assert Settings().models == models.names()


def test_models_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_MODELS", "sentiment, image,")
    assert Settings().models == ["sentiment", "image"]


@pytest.mark.parametrize(
    ("served", "default", "expected"),
    [
        ("", "", None),
        ("sentiment,image", "", None),
        ("image", "", "image"),
        ("image:a,image:b", "", "image"),
        ("sentiment,image", "Image", "image"),
        ("", "sentiment", "sentiment"),
    ],
)
def test_the_only_model_is_the_default_or_the_one_that_is_set(
    monkeypatch: pytest.MonkeyPatch, served: str, default: str, expected: str | None
) -> None:
    monkeypatch.setenv("TIFFIN_MODELS", served)
    monkeypatch.setenv("TIFFIN_DEFAULT_MODEL", default)
    assert Settings().default_model == expected


def test_a_default_model_must_be_served(monkeypatch: pytest.MonkeyPatch) -> None:
    found = wrong(monkeypatch, TIFFIN_MODELS="sentiment,image", TIFFIN_DEFAULT_MODEL="segmentation")
    assert found == ["TIFFIN_DEFAULT_MODEL=segmentation: segmentation is not served, only sentiment, image"]
    found = wrong(monkeypatch, TIFFIN_DEFAULT_MODEL="absent")
    assert found == [f"TIFFIN_DEFAULT_MODEL=absent: no model 'absent'; models/ has {', '.join(models.names())}"]


def test_an_unknown_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_MODELS", "sentiment,nonsense")
    with pytest.raises(ValidationError, match="no model 'nonsense'; models/ has breast_cancer"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value"), [("TIFFIN_WORKERS", "0"), ("TIFFIN_TIMEOUT_SECONDS", "-1"), ("TIFFIN_ACCESS_LOG", "perhaps")]
)
def test_a_bad_value_names_its_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.removeprefix("TIFFIN_").lower()):
        Settings()


def test_api_keys_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_API_KEYS", "one, two,")
    assert [key.get_secret_value() for key in Settings().api_keys] == ["one", "two"]


def test_commas_alone_do_not_admit_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_API_KEYS", " ,,")
    with pytest.raises(ValidationError, match="holds no key"):
        Settings()


def test_commas_alone_name_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_MODELS", ",")
    with pytest.raises(ValidationError, match="names no model; models/ has breast_cancer"):
        Settings()


def test_no_key_is_needed_by_default() -> None:
    settings = Settings()
    assert (settings.api_keys, settings.api_keys_file) == ([], None)


def test_a_file_of_keys_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIFFIN_API_KEYS_FILE", str(tmp_path / "absent"))
    with pytest.raises(ValidationError, match="absent cannot be read: No such file"):
        Settings()


def test_a_file_of_keys_that_can_be_read_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("secret\n")
    monkeypatch.setenv("TIFFIN_API_KEYS_FILE", str(file))
    assert Settings().api_keys_file == file


@pytest.mark.parametrize(
    ("content", "fault"), [(b"\r\n", "holds no keys"), ("secret".encode("utf-16-le"), "is not text in UTF-8")]
)
def test_a_file_without_keys_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, fault: str
) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    monkeypatch.setenv("TIFFIN_API_KEYS_FILE", str(file))
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert faults(raised.value) == [f"TIFFIN_API_KEYS_FILE={file}: {file} {fault}"]


def test_no_proxy_is_trusted_by_default() -> None:
    assert Settings().trusted_proxies == []


def test_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_TRUSTED_PROXIES", "10.0.0.0/8, 192.168.1.5,::1, fd00::/8,")
    assert [str(found) for found in Settings().trusted_proxies] == [
        "10.0.0.0/8",
        "192.168.1.5/32",
        "::1/128",
        "fd00::/8",
    ]


@pytest.mark.parametrize("value", ["*", "gateway", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/8 192.168.1.5"])
def test_what_is_no_network_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TIFFIN_TRUSTED_PROXIES", value)
    with pytest.raises(ValidationError, match="must be addresses and networks, such as"):
        Settings()


def test_a_rate_limit_has_a_number_and_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_RATE_LIMIT", "100/minute")
    assert Settings().rate_limit == parse("100 per minute")


def test_a_rate_limit_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_RATE_LIMIT", "often")
    with pytest.raises(ValidationError, match="rate_limit"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIFFIN_TIMEOUT_SECONDS", "1e308"),
        ("TIFFIN_BODY_TIMEOUT_SECONDS", "inf"),
        ("TIFFIN_CACHE_TTL_SECONDS", "1e300"),
        ("TIFFIN_SESSION_THREADS", "100000000000000000000"),
        ("TIFFIN_WORKERS", "1000000"),
        ("TIFFIN_RATE_LIMIT", "0/minute"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    (line,) = faults(caught.value)
    assert line.startswith(f"{name}={value}: must be")


OLD = {
    "MODELS": "image",
    "WORKERS": "3",
    "SESSION_THREADS": "2",
    "TIMEOUT_SECONDS": "11",
    "QUEUE_SECONDS": "3",
    "QUEUE_ITEMS": "7",
    "LINGER_SECONDS": "0.5",
    "MAX_BATCH": "5",
    "SHUTDOWN_GRACE_SECONDS": "1",
    "BODY_TIMEOUT_SECONDS": "12",
    "KEEP_ALIVE_SECONDS": "700",
    "MAX_BODY_BYTES": "1000",
    "MAX_UPLOAD_BYTES": "2000",
    "MAX_IN_FLIGHT_BYTES": "3000",
    "CORS_ORIGINS": "https://app.example",
    "CACHE_TTL_SECONDS": "60",
    "CACHE_MAX_BYTES": "4000",
    "RESPONSE_CACHE_MAX_BYTES": "5000",
    "REDIS_URL": "redis://redis",
    "REDIS_PREFIX": "other:",
    "REDIS_TIMEOUT_SECONDS": "0.25",
    "API_KEYS": "secret",
    "API_KEYS_FILE": __file__,
    "RATE_LIMIT": "5/minute",
    "TRUSTED_PROXIES": "10.0.0.0/8",
    "ACCESS_LOG": "true",
}
STANDARD = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:hidden@collector:4318", "ROOT_PATH": "/project"}


def test_old_names_mean_what_the_new_ones_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name.lower() for name in OLD | STANDARD} == Settings.model_fields.keys() - NEW
    for name, value in (OLD | STANDARD).items():
        monkeypatch.setenv(name, value)
    old = Settings()
    assert old.model_fields_set == {name.lower() for name in OLD | STANDARD}
    for name, value in (OLD | STANDARD).items():
        monkeypatch.delenv(name)
        monkeypatch.setenv(f"TIFFIN_{name}", value)
    assert Settings() == old


def test_old_names_in_use_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (OLD | STANDARD).items():
        monkeypatch.setenv(name, value)
    old, new = ", ".join(OLD), ", ".join(f"TIFFIN_{name}" for name in OLD)
    assert renamed(map(str.lower, OLD | STANDARD)) == f"{old}: old names of {new}, which are to be used instead"


def test_new_names_and_empty_ones_are_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_MODELS", "image")
    monkeypatch.setenv("WORKERS", "")
    assert renamed(Settings.model_fields) == ""


def test_the_new_name_goes_before_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_WORKERS", "2")
    monkeypatch.setenv("WORKERS", "none")
    assert Settings().workers == 2
    assert renamed(Settings.model_fields) == ""


def test_an_empty_new_name_leaves_the_old_one_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_WORKERS", "")
    monkeypatch.setenv("WORKERS", "2")
    assert Settings().workers == 2
    assert renamed(Settings.model_fields) == "WORKERS: old name of TIFFIN_WORKERS, which is to be used instead"


@pytest.mark.parametrize("name", ["WORKERS", "TIFFIN_WORKERS", "tiffin_workers"])
def test_a_fault_names_the_variable_that_is_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert wrong(monkeypatch, **{name: "0"}) == [f"{name}=0: must be a whole number from 1 on, up to 1024"]


def test_a_model_has_the_settings_of_all_but_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "session_threads": "3",
        "queue_seconds": "0.5",
        "queue_items": "9",
        "linger_seconds": "0",
        "batch_share": "1",
        "max_batch": "4",
    }
    assert own.keys() == ModelSettings.model_fields.keys()
    monkeypatch.setenv("TIFFIN_MAX_BATCH", "16")
    monkeypatch.setenv("TIFFIN_SESSION_THREADS", "2")
    monkeypatch.setenv("TIFFIN_MODEL__BREAST_CANCER__QUEUE_ITEMS", "1")
    for name, value in own.items():
        monkeypatch.setenv(f"TIFFIN_MODEL__SENTIMENT__{name.upper()}", value)
    settings = Settings()
    assert settings.of("sentiment") == ModelSettings(
        session_threads=3, queue_seconds=0.5, queue_items=9, linger_seconds=0.0, batch_share=1.0, max_batch=4
    )
    assert settings.of("breast_cancer") == ModelSettings(session_threads=2, queue_items=1, max_batch=16)
    assert settings.of("image") == ModelSettings(session_threads=2, max_batch=16)


@pytest.mark.parametrize("name", ModelSettings.model_fields)
def test_what_may_be_set_for_a_model_may_be_set_for_all_within_the_same_bounds(name: str) -> None:
    one, everyone = ModelSettings.model_fields[name], Settings.model_fields[name]
    assert (one.annotation, one.metadata) == (everyone.annotation, everyone.metadata)


SENTIMENT = "TIFFIN_MODEL__SENTIMENT"
OWN = "no setting of a model; after its name and __ come "


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (f"{SENTIMENT}__MAX_BATCH", "0", "must be a whole number from 1 on"),
        (f"{SENTIMENT}__QUEUE_SECONDS", "inf", "must be a number greater than 0, up to 86400"),
        (f"{SENTIMENT}__BATCH_SHARE", "1.1", "must be a number from 0 on, up to 1"),
        (f"{SENTIMENT}__MAX_BATCHES", "8", OWN),
        (f"{SENTIMENT}__TIMEOUT_SECONDS", "8", OWN),
        (f"{SENTIMENT}__MAX_BATCH__OTHER", "8", OWN),
        (SENTIMENT, "8", OWN),
        (SENTIMENT, '{"max_batch": 0}', "must be a whole number from 1 on"),
        ("TIFFIN_MODEL__NONSENSE__MAX_BATCH", "8", "no model 'nonsense'; models/ has breast_cancer"),
        ("TIFFIN_MODEL__NONSENSE__NOTHING", "8", "no "),
        ("TIFFIN_MODEL__NONSENSE", "8", "no "),
        ("TIFFIN_MODEL", "sentiment", "must name a model and its setting, as TIFFIN_MODEL__<NAME>__MAX_BATCH does"),
    ],
)
def test_a_fault_in_what_a_model_has_of_its_own_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    (line,) = wrong(monkeypatch, **{name: value})
    assert line.startswith(f"{name}={value}: {said}")
    assert "\n" not in line


def test_what_follows_a_setting_of_a_model_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = wrong(monkeypatch, **{f"{SENTIMENT}__MAX_BATCH": "8", f"{SENTIMENT}__MAX_BATCH__OTHER": "9"})
    assert line.startswith(f"{SENTIMENT}__MAX_BATCH__OTHER=9: {OWN}")


def test_the_variable_model_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "other")
    monkeypatch.setenv("MODEL__SENTIMENT__MAX_BATCH", "4")
    assert Settings().model == {}


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = {"redis_url": "redis://user:hidden@redis", "otel_exporter_otlp_endpoint": "http://user:hidden@collector"}
    for name in SECRET:
        monkeypatch.setenv(f"TIFFIN_{name.upper()}", urls.get(name, "hidden"))
    settings = Settings()
    assert "hidden" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


@pytest.mark.parametrize("name", ["TIFFIN_REDIS_URL", "REDIS_URL", "TIFFIN_API_KEYS__0", "TIFFIN_API_KEYS_FILE"])
def test_faults_show_no_secret(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("TIFFIN_API_KEYS", "hidden" if name == "TIFFIN_API_KEYS_FILE" else "")
    monkeypatch.setenv(name, "absent" if name == "TIFFIN_API_KEYS_FILE" else "http://user:hidden@redis")
    with pytest.raises(ValidationError) as caught:
        Settings()
    (line,) = faults(caught.value)
    assert line.startswith(name)
    assert "hidden" not in f"{line} {caught.value} {caught.value!r}"


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hid/den@collector",
        "http://user:hidden@collector:99999",
        "http://user:hidden@collector:port",
        "collector:4318",
        "http://",
        "grpc://:hidden@collector",
    ],
)
def test_an_address_of_a_collector_that_cannot_be_parsed_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    (line,) = wrong(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert line == "OTEL_EXPORTER_OTLP_ENDPOINT: must be an address such as http://localhost:4318"


@pytest.mark.parametrize("name", ["redis_prefix", "redis_url", "otel_exporter_otlp_endpoint"])
def test_what_is_empty_and_would_mean_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        Settings(**{name: ""})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["TIFFIN_REDIS_PREFIX", "REDIS_PREFIX"])
def test_a_variable_that_is_empty_counts_as_unset(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    assert Settings().redis_prefix == "tiffin:"


def test_an_execution_provider_that_onnxruntime_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_EXECUTION_PROVIDER", "abacus")
    with pytest.raises(ValidationError, match=r"has no execution provider abacus here, it has .*cpu"):
        Settings()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("TIFFIN_API_KEY", "TIFFIN_API_KEYS"), ("tiffin_worker", "TIFFIN_WORKERS"), ("TIFFIN_XYZ", "")],
)
def test_a_variable_that_sets_nothing_is_told_with_the_one_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "1")
    (line,) = unknown(Settings.model_fields)
    assert line == f"{name}: no setting has this name" + (f", {meant} has" if meant else "")


@pytest.mark.parametrize(
    "name",
    [
        *("TIFFIN_WORKERS", "TIFFIN_MODEL__SENTIMENT__MAX_BATCH", "WORKERS", "TIFFIN_METRICS_DIR", "TIFFIN_PORT"),
        *("TIFFIN_SERVICE_HOST", "TIFFIN_SERVICE_PORT", "TIFFIN_REDIS_SERVICE_PORT_HTTP"),
        *("TIFFIN_PORT_3000_TCP", "TIFFIN_A_PORT_3000_TCP_ADDR", "TIFFIN_A_PORT_3000_UDP_PROTO"),
    ],
)
def test_settings_and_the_variables_of_kubernetes_are_known(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert unknown(Settings.model_fields) == []


@pytest.mark.parametrize(("value", "port"), [("", 0), ("0", 0), ("8001", 8001), (None, 8001)])
def test_an_empty_port_for_grpc_means_none(monkeypatch: pytest.MonkeyPatch, value: str | None, port: int) -> None:
    monkeypatch.delenv("TIFFIN_GRPC_PORT", raising=False)
    if value is not None:
        monkeypatch.setenv("TIFFIN_GRPC_PORT", value)
    assert Settings().grpc_port == port


def test_a_port_for_grpc_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrong(monkeypatch, TIFFIN_GRPC_PORT="65536") == [
        "TIFFIN_GRPC_PORT=65536: must be a whole number from 0 on, up to 65535"
    ]
