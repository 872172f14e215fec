"""compose.yaml conforms to the specification, and the files that it mounts exist."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

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
