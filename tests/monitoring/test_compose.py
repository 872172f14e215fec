"""compose.yaml conforms to the specification, and the files that it mounts exist."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from serving.jobs.settings import JobSettings
from tests.support import ROOT

FILE = ROOT / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
RULE = ROOT / "k8s" / "components" / "monitoring" / "prometheus-rule.yaml"


def mounts(service: str) -> dict[str, Path]:
    """Return the files of this project that a service mounts, by their paths there."""
    parts = [volume.split(":") for volume in SERVICES[service]["volumes"] if volume.startswith("./")]
    return {target: ROOT / source for source, target, _ in parts}


def test_it_fits_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_it_mounts_is_there() -> None:
    mounted = mounts("prometheus") | mounts("grafana")
    assert [str(file) for file in mounted.values() if not file.is_file()] == []


def test_the_server_has_a_temporary_folder_that_is_no_memory() -> None:
    assert SERVICES["tiffin"]["read_only"]
    assert "/tmp" in SERVICES["tiffin"]["volumes"]
    assert "tmpfs" not in SERVICES["tiffin"]


def test_every_image_has_a_tag() -> None:
    assert [service["image"] for service in SERVICES.values() if ":" not in service["image"]] == []


def test_jobs_have_a_database_and_a_worker_where_the_profile_and_a_password_are_given() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"postgres", "worker"}
    database, worker, server = (SERVICES[name] for name in ("postgres", "worker", "tiffin"))
    given = database["environment"]
    place = f"postgresql://{given['POSTGRES_USER']}:${{JOBS_PASSWORD}}@postgres/{given['POSTGRES_DB']}"
    # Empty, which counts as unset, where there is no password; PostgreSQL does not start without one.
    assert worker["environment"]["TIFFIN_JOB_STORE"] == f"${{JOBS_PASSWORD:+{place}}}"
    assert given["POSTGRES_PASSWORD"] == "${JOBS_PASSWORD-}"
    assert worker["environment"].items() <= server["environment"].items()


def test_the_worker_is_the_servers_image_and_shares_the_files_of_jobs() -> None:
    worker, server = SERVICES["worker"], SERVICES["tiffin"]
    assert worker["image"] == server["image"]
    assert worker["entrypoint"] == ["python", "-m", "serving.jobs.worker"]
    (shared,) = {volume for volume in worker["volumes"] if ":" in volume} & set(server["volumes"])
    assert shared.partition(":")[2] == worker["environment"]["TIFFIN_JOB_FILES"]
    # The image has the folder, whose owner a new volume takes.
    assert f" {shared.partition(':')[2]}\n" in (ROOT / "container" / "Dockerfile").read_text(encoding="utf-8")


def test_prometheus_asks_each_worker() -> None:
    prometheus = yaml.safe_load(mounts("prometheus")["/etc/prometheus/prometheus.yml"].read_text(encoding="utf-8"))
    (jobs,) = [found for found in prometheus["scrape_configs"] if found["job_name"] == "tiffin-worker"]
    (found,) = jobs["dns_sd_configs"]
    assert found["names"] == ["worker"]
    assert found["port"] == JobSettings.model_fields["job_metrics_port"].default


def test_prometheus_gets_the_rules_of_the_cluster(tmp_path: Path) -> None:
    (command,) = SERVICES["prometheus"]["command"]
    cut, _, _ = command.replace("$$", "$").partition(" && exec ")
    (target,) = [target for target, file in mounts("prometheus").items() if file == RULE]
    (rules,) = yaml.safe_load(mounts("prometheus")["/etc/prometheus/prometheus.yml"].read_text(encoding="utf-8"))[
        "rule_files"
    ]
    assert target in cut
    assert rules in cut
    cut = cut.replace(target, str(RULE)).replace(rules, str(tmp_path / "rules.yaml"))
    subprocess.run([str(shutil.which("sh")), "-c", cut], timeout=10, check=True)
    assert (
        yaml.safe_load((tmp_path / "rules.yaml").read_text(encoding="utf-8"))
        == yaml.safe_load(RULE.read_text(encoding="utf-8"))["spec"]
    )


def test_grafana_gets_the_dashboard_and_its_data() -> None:
    mounted = mounts("grafana")
    (provider,) = yaml.safe_load(
        mounted["/etc/grafana/provisioning/dashboards/tiffin.yaml"].read_text(encoding="utf-8")
    )["providers"]
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in mounted
    assert f"{provider['options']['path']}/dashboard.json" in mounted
    (source,) = yaml.safe_load(
        mounted["/etc/grafana/provisioning/datasources/prometheus.yaml"].read_text(encoding="utf-8")
    )["datasources"]
    scraped = yaml.safe_load(mounts("prometheus")["/etc/prometheus/prometheus.yml"].read_text(encoding="utf-8"))[
        "global"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == scraped["scrape_interval"]
