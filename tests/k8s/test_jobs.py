"""Background jobs in a cluster: servers and workers share a database and files, and a worker is watched and may end."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.manifests import (
    RENDERS,
    Manifest,
    labels,
    manifests,
    named,
    pod,
    selects,
    servers,
    settings,
    workers,
)

WITH_JOBS = [name for name in RENDERS if any(part in name for part in ("jobs", "all"))]
# Longest wait for the database, to give chunks back (serving/jobs/database.py).
RELEASE_SECONDS = 5
# Ports of PostgreSQL, of buckets and of Redis.
DATABASE, BUCKET, CACHE = 5432, 443, 6379

renders = pytest.mark.parametrize("name", WITH_JOBS)


def variables(deployment: Manifest) -> dict[str, Any]:
    return {variable["name"]: variable for variable in pod(deployment)["containers"][0]["env"]}


def policy(name: str, of: str) -> Any:
    """Return the rules of a network policy."""
    return named(name, "NetworkPolicy")[of]["spec"]


def reached(spec: Any, port: object) -> list[Any]:
    """Return the peers to which a network policy allows connections at a port."""
    allowed = [rule for rule in spec["egress"] if port in {found["port"] for found in rule["ports"]}]
    return [peer for rule in allowed for peer in rule["to"]]


@renders
def test_servers_and_workers_share_the_database_and_the_files(name: str) -> None:
    found = servers(name) + workers(name)
    assert len(workers(name)) == 1
    key = {"secretKeyRef": {"name": "tiffin-job-store", "key": "url"}}
    assert [variables(each)["TIFFIN_JOB_STORE"]["valueFrom"] for each in found] == [key] * len(found)
    assert {settings(name, each)["TIFFIN_JOB_FILES"] for each in found} == {"s3://tiffin-jobs"}
    sources = [source.get("secretRef") for each in found for source in pod(each)["containers"][0]["envFrom"]]
    assert sources.count({"name": "tiffin-job-files", "optional": True}) == len(found)


@renders
def test_a_worker_is_the_servers_image_with_another_command(name: str) -> None:
    (worker,) = workers(name)
    (container,) = pod(worker)["containers"]
    assert {container["image"]} == {pod(server)["containers"][0]["image"] for server in servers(name)}
    assert container["command"] == ["python", "-m", "serving.jobs.worker"]
    assert not any(selects(service["spec"]["selector"], labels(worker)) for service in manifests(name, "Service"))


@renders
def test_a_worker_is_alive_while_its_metrics_answer(name: str) -> None:
    (container,) = pod(workers(name)[0])["containers"]
    (port,) = container["ports"]
    code = (ROOT / "serving" / "jobs" / "settings.py").read_text(encoding="utf-8")
    (default,) = re.findall(r"job_metrics_port: int = Field\(\s*default=(\d+)", code)
    assert port["containerPort"] == int(default)
    probes = [container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe")]
    assert probes == [{"path": "/metrics", "port": port["name"]}] * 2


@renders
def test_a_worker_that_ends_has_the_time_to_give_its_chunks_back(name: str) -> None:
    (worker,) = workers(name)
    grace = float(settings(name, worker)["TIFFIN_SHUTDOWN_GRACE_SECONDS"])
    assert pod(worker)["terminationGracePeriodSeconds"] >= grace + RELEASE_SECONDS


@renders
def test_the_database_keeps_its_data_in_a_volume_and_its_password_in_a_file(name: str) -> None:
    (database,) = manifests(name, "StatefulSet")
    (claim,) = database["spec"]["volumeClaimTemplates"]
    (container,) = pod(database)["containers"]
    paths = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    # Where the image keeps it from PostgreSQL 18 on, each major version in a folder of its own.
    assert paths["/var/lib/postgresql"] == claim["metadata"]["name"]
    folder, _, key = variables(database)["POSTGRES_PASSWORD_FILE"]["value"].rpartition("/")
    (secret,) = [volume["secret"] for volume in pod(database)["volumes"] if volume["name"] == paths[folder]]
    assert secret["secretName"] == "tiffin-job-store"
    assert secret["items"] == [{"key": key, "path": key}]


def test_the_guide_makes_the_secret_that_is_read() -> None:
    guide = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"kubectl --namespace (\S+) create secret generic tiffin-job-store ((?:\\\n|.)*)\n", guide)
    namespace, literals = command[0], dict(re.findall(r"--from-literal=(\w+)=(\S+)", command[1]))
    (database,) = manifests("production-jobs", "StatefulSet")
    user, name = (variables(database)[key]["value"] for key in ("POSTGRES_USER", "POSTGRES_DB"))
    password = literals["password"]
    host = f"{database['spec']['serviceName']}.{namespace}"
    assert literals == {"password": password, "url": f"postgresql://{user}:{password}@{host}/{name}"}
    assert database["metadata"]["namespace"] == namespace
    assert database["spec"]["serviceName"] in named("production-jobs", "Service")


@renders
def test_servers_and_workers_reach_the_database_and_the_bucket(name: str) -> None:
    (database,) = manifests(name, "StatefulSet")
    spec = policy(name, "tiffin-postgres")
    assert selects(spec["podSelector"]["matchLabels"], labels(database))
    for each in ["tiffin-worker", "tiffin"]:
        if each in named(name, "NetworkPolicy"):
            (peer,) = reached(policy(name, each), DATABASE)
            assert selects(peer["podSelector"]["matchLabels"], labels(database))
            assert {"0.0.0.0/0", "::/0"} <= {found["ipBlock"]["cidr"] for found in reached(policy(name, each), BUCKET)}


@renders
def test_only_servers_workers_and_their_autoscaler_reach_the_database_which_reaches_nobody(name: str) -> None:
    spec = policy(name, "tiffin-postgres")
    assert "egress" not in spec
    assert "Egress" in spec["policyTypes"]
    (rule,) = spec["ingress"]
    pods, *others = rule["from"]
    (expression,) = pods["podSelector"]["matchExpressions"]
    found = {labels(each)["app.kubernetes.io/component"] for each in servers(name) + workers(name)}
    assert set(expression["values"]) == found
    keda = [] if all(each["kind"] != "TriggerAuthentication" for each in manifests(name)) else ["keda"]
    assert [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in others] == keda


@renders
def test_workers_and_servers_reach_the_same(name: str) -> None:
    if "tiffin" in named(name, "NetworkPolicy"):
        # But for the cache, which workers do without.
        server = [rule for rule in policy(name, "tiffin")["egress"] if rule["ports"] != [{"port": CACHE}]]
        worker = policy(name, "tiffin-worker")["egress"]
        assert sorted(map(str, server)) == sorted(map(str, worker))


def test_prometheus_reads_a_worker_under_the_job_that_rules_look_for() -> None:
    (monitor,) = manifests("production-jobs", "PodMonitor")
    (worker,) = workers("production-jobs")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert selects(monitor["spec"]["selector"]["matchLabels"], labels(worker))
    assert endpoint["port"] in {port["name"] for port in pod(worker)["containers"][0]["ports"]}
    job = {relabel["targetLabel"]: relabel["replacement"] for relabel in endpoint["relabelings"]}["job"]
    (rules,) = manifests("production-jobs", "PrometheusRule")
    assert f'job=~"tiffin|{job}"' in str(rules)


def test_the_autoscaler_has_the_servers_address_of_the_database() -> None:
    (scaled,) = manifests("production-jobs", "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    authentication = named("production-jobs", "TriggerAuthentication")[trigger["authenticationRef"]["name"]]
    key = variables(workers("production-jobs")[0])["TIFFIN_JOB_STORE"]["valueFrom"]["secretKeyRef"]
    assert authentication["spec"]["secretTargetRef"] == [{"parameter": "connection", **key}]
