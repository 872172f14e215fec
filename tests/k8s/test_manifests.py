"""The parts of each render fit together: names, labels, ports, times, models."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from pkgutil import iter_modules
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support import ROOT
from tests.support.manifests import (
    K8S,
    OPENSHIFT,
    RENDERS,
    WORKLOADS,
    Manifest,
    containers,
    kustomize,
    labels,
    manifests,
    named,
    pod,
    selects,
    servers,
    settings,
    workers,
)

# As models.names(), whose import would need the models' packages.
MODELS = [module.name for module in iter_modules([str(ROOT / "models")]) if module.name != "model"]
# Overlays for clusters that others use too.
SHARED = ["canary", "canary-gateway-api", "production", "production-jobs", "queue"]
# Of these, `course` goes into a namespace that somebody else has made.
TOLD_THE_IMAGE = [*SHARED, "course"]
# Made by hand, as components/api-keys, image-pull-secret and jobs say; the last is optional.
SECRETS = {"tiffin-api-keys", "tiffin-registry", "tiffin-job-store", "tiffin-job-files"}
# BentoML gives up a request this long after TIFFIN_TIMEOUT_SECONDS (service.py).
LAST_RESORT_SECONDS = 5
# Volumes that the restricted Pod Security Standard allows.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}

# That of TIFFIN_GRPC_PORT.
GRPC_PORT = 8001
# The server keeps an idle connection a little longer (TIFFIN_KEEP_ALIVE_SECONDS).
LONGEST_IDLE_SECONDS = 600
# Fields that OpenShift's restricted-v2 sets itself.
FIXED = {"runAsUser", "runAsGroup", "fsGroup"}

renders = pytest.mark.parametrize("name", RENDERS)


def routed_hosts(name: str, kind: str) -> list[str]:
    """Return the hosts of all routes of a kind."""
    return [host for route in manifests(name, kind) for host in route["spec"].get("hostnames", [])]


def scaled(name: str) -> Iterator[tuple[Manifest, str]]:
    """Yield autoscalers, with the names of the Deployments that they scale."""
    for autoscaler in manifests(name, "HorizontalPodAutoscaler", "ScaledObject"):
        yield autoscaler, autoscaler["spec"]["scaleTargetRef"]["name"]


def destinations(name: str) -> Iterator[tuple[str, int]]:
    """Yield names and ports of the Services of this namespace that routes lead to."""
    for route in manifests(name, "HTTPRoute", "GRPCRoute"):
        for rule in route["spec"]["rules"]:
            backends = [backend for backend in rule.get("backendRefs", []) if "namespace" not in backend]
            yield from ((backend["name"], backend["port"]) for backend in backends)
    for route in manifests(name, "VirtualService"):
        for rule in route["spec"]["http"]:
            for part in rule["route"]:
                yield part["destination"]["host"], part["destination"]["port"]["number"]


@renders
def test_a_deployment_selects_its_own_pods_and_no_others(name: str) -> None:
    deployments = manifests(name, "Deployment", "StatefulSet")
    for deployment in deployments:
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert [found for found in deployments if selects(selector, labels(found))] == [deployment]


@renders
def test_a_service_leads_to_a_port_of_one_deployment(name: str) -> None:
    for service in manifests(name, "Service"):
        selector = service["spec"]["selector"]
        workloads = manifests(name, "Deployment", "StatefulSet")
        (deployment,) = [found for found in workloads if selects(selector, labels(found))]
        ports = {port["name"] for container in containers(deployment) for port in container.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("name", [name for name in RENDERS if name != "course"])
def test_grpc_has_a_service_with_an_address_and_one_that_names_the_pods(name: str) -> None:
    for deployment in servers(name):
        ports = {port["name"]: port["containerPort"] for port in pod(deployment)["containers"][0]["ports"]}
        assert ports["grpc"] == GRPC_PORT
        found = manifests(name, "Service")
        services = [service for service in found if selects(service["spec"]["selector"], labels(deployment))]
        services = [service for service in services if service["spec"].get("type") != "LoadBalancer"]
        assert sorted(service["spec"].get("clusterIP", "") for service in services) == ["", "None"]
        for service in services:
            (port,) = [port for port in service["spec"]["ports"] if port["name"] == "grpc"]
            assert (port["port"], port["appProtocol"]) == (GRPC_PORT, "kubernetes.io/h2c")


@renders
def test_a_disruption_budget_is_that_of_one_deployment(name: str) -> None:
    for budget in manifests(name, "PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"]
        assert len([found for found in manifests(name, "Deployment") if selects(selector, labels(found))]) == 1


@renders
def test_a_deployment_spreads_its_own_pods(name: str) -> None:
    for deployment in servers(name):
        spread = pod(deployment)["topologySpreadConstraints"]
        assert [constraint["topologyKey"] for constraint in spread] == [
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        ]
        for constraint in spread:
            assert constraint["labelSelector"] == deployment["spec"]["selector"]


@renders
def test_an_autoscaler_scales_a_container_that_there_is(name: str) -> None:
    deployments = named(name, "Deployment")
    for autoscaler, target in scaled(name):
        known = {container["name"] for container in containers(deployments[target])}
        for metric in autoscaler["spec"].get("metrics", []):
            assert metric["containerResource"]["container"] in known


@renders
def test_replicas_stand_only_where_no_autoscaler_sets_them(name: str) -> None:
    for _, target in scaled(name):
        assert "replicas" not in named(name, "Deployment")[target]["spec"]


@renders
def test_what_a_pod_refers_to_is_there(name: str) -> None:
    for deployment in manifests(name, "Deployment", "StatefulSet"):
        spec = pod(deployment)
        volumes = spec.get("volumes", [])
        claims = deployment["spec"].get("volumeClaimTemplates", [])
        sources = [source for container in containers(deployment) for source in container.get("envFrom", [])]
        maps = {source["configMapRef"]["name"] for source in sources if "configMapRef" in source}
        assert maps <= named(name, "ConfigMap").keys()
        secrets = {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}
        secrets |= {source["secretRef"]["name"] for source in sources if "secretRef" in source}
        variables = [variable for container in containers(deployment) for variable in container.get("env", [])]
        secrets |= {found["valueFrom"]["secretKeyRef"]["name"] for found in variables if "valueFrom" in found}
        assert secrets <= SECRETS
        assert {secret["name"] for secret in spec.get("imagePullSecrets", [])} <= SECRETS
        asked = [volume["persistentVolumeClaim"] for volume in volumes if "persistentVolumeClaim" in volume]
        assert {claim["claimName"] for claim in asked} <= named(name, "PersistentVolumeClaim").keys()
        mounts = {mount["name"] for container in containers(deployment) for mount in container.get("volumeMounts", [])}
        assert mounts == {volume["name"] for volume in volumes} | {claim["metadata"]["name"] for claim in claims}
        assert spec.get("serviceAccountName", "default") in {"default", *named(name, "ServiceAccount")}


@renders
def test_no_secret_is_in_the_manifests(name: str) -> None:
    assert manifests(name, "Secret") == []


@renders
def test_settings_are_settings_of_the_server(name: str) -> None:
    files = [ROOT / "serving" / "settings.py", *(ROOT / "serving").glob("*/settings.py")]
    bodies = [node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
    classes = [node for node in bodies if isinstance(node, ast.ClassDef)]
    fields = [node.target for each in classes for node in each.body if isinstance(node, ast.AnnAssign)]
    known = {f"TIFFIN_{field.id.upper()}" for field in fields if isinstance(field, ast.Name)}
    for deployment in servers(name) + workers(name):
        assert settings(name, deployment).keys() <= known


@renders
def test_redis_is_where_the_server_looks_for_it(name: str) -> None:
    for deployment in servers(name):
        host = urlsplit(settings(name, deployment)["TIFFIN_REDIS_URL"]).hostname
        beside = "redis" in {container["name"] for container in containers(deployment)}
        assert beside if host == "localhost" else host in named(name, "Service") and not beside


@renders
def test_a_file_of_keys_is_mounted(name: str) -> None:
    for deployment in servers(name):
        file = settings(name, deployment).get("TIFFIN_API_KEYS_FILE")
        if file:
            mounts = {mount["mountPath"]: mount["name"] for mount in pod(deployment)["containers"][0]["volumeMounts"]}
            (volume,) = [
                found for found in pod(deployment)["volumes"] if found["name"] == mounts[file.rpartition("/")[0]]
            ]
            assert volume["secret"]["secretName"] in SECRETS


@renders
def test_behind_a_gateway_its_word_is_taken_for_the_clients_address(name: str) -> None:
    routed = bool(list(destinations(name)))
    for deployment in servers(name):
        networks = [part for part in settings(name, deployment).get("TIFFIN_TRUSTED_PROXIES", "").split(",") if part]
        assert bool(networks) == routed
        assert all(ip_network(network).is_private or network == "100.64.0.0/10" for network in networks)


@renders
def test_a_route_leads_to_a_port_of_a_service(name: str) -> None:
    services = named(name, "Service")
    for host, number in destinations(name):
        assert number in {port["port"] for port in services[host]["spec"]["ports"]}


@renders
def test_grpc_leads_to_its_own_port_and_nothing_else_does(name: str) -> None:
    for route in manifests(name, "HTTPRoute", "GRPCRoute"):
        backends = [backend for rule in route["spec"]["rules"] for backend in rule.get("backendRefs", [])]
        ports = {backend["port"] for backend in backends if "namespace" not in backend}
        assert ports <= {GRPC_PORT if route["kind"] == "GRPCRoute" else 3000}
    for route in manifests(name, "VirtualService") if name != "course" else []:
        prefixes = [match["uri"]["prefix"] for rule in route["spec"]["http"] for match in rule["match"]]
        assert prefixes == ["/inference.GRPCInferenceService/", "/"]
        for rule, port in zip(route["spec"]["http"], (GRPC_PORT, 3000), strict=True):
            assert {part["destination"]["port"]["number"] for part in rule["route"]} == {port}


@renders
def test_no_host_has_routes_of_two_kinds(name: str) -> None:
    # The Gateway API: of an HTTPRoute and a GRPCRoute that share a host, one is not accepted.
    assert not set(routed_hosts(name, "HTTPRoute")) & set(routed_hosts(name, "GRPCRoute"))


@renders
def test_a_destination_rule_is_for_a_service(name: str) -> None:
    assert {rule["spec"]["host"] for rule in manifests(name, "DestinationRule")} <= named(name, "Service").keys()


@renders
def test_a_gateway_closes_idle_connections_before_the_server_does(name: str) -> None:
    for rule in manifests(name, "DestinationRule"):
        idle = rule["spec"]["trafficPolicy"]["connectionPool"]["http"]["idleTimeout"]
        assert int(idle.removesuffix("s")) <= LONGEST_IDLE_SECONDS


@renders
def test_temporary_files_are_on_disk_and_have_room(name: str) -> None:
    for deployment in servers(name):
        (volume,) = [found for found in pod(deployment)["volumes"] if found["name"] == "tmp"]
        assert volume["emptyDir"] == {"sizeLimit": "2Gi"}


@renders
def test_every_server_is_scraped_once_where_there_is_a_monitor(name: str) -> None:
    for monitor in manifests(name, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        ports = {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}
        scraped = [
            service
            for service in manifests(name, "Service")
            if selects(selector, service["metadata"]["labels"])
            and ports & {port["name"] for port in service["spec"]["ports"]}
        ]
        assert len(scraped) == len(servers(name))


@renders
def test_every_container_satisfies_the_restricted_pod_security_standard(name: str) -> None:
    for deployment in manifests(name, *WORKLOADS):
        spec = pod(deployment)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        for volume in spec.get("volumes", []):
            assert set(volume) - {"name"} <= VOLUMES
        for container in containers(deployment):
            context = spec["securityContext"] | container["securityContext"]
            assert context["runAsNonRoot"] is True
            assert context.get("runAsUser", 1) > 0
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not context.get("privileged")
            assert context["readOnlyRootFilesystem"] is True


@renders
def test_users_and_groups_are_fixed_but_on_openshift(name: str) -> None:
    for deployment in manifests(name, *WORKLOADS):
        pod_context, *contexts = [found["securityContext"] for found in [pod(deployment), *containers(deployment)]]
        assert [sorted(FIXED & context.keys()) for context in contexts] == [[]] * len(contexts)
        assert ("runAsUser" in pod_context) is (name not in OPENSHIFT)
        assert not (FIXED & pod_context.keys() and name in OPENSHIFT)


@renders
def test_only_podman_takes_ports_of_the_host(name: str) -> None:
    for deployment in manifests(name, "Deployment"):
        for container in containers(deployment):
            taken = [port["hostPort"] for port in container.get("ports", []) if "hostPort" in port]
            assert taken == ([3000, GRPC_PORT] if name == "podman" and container["name"] == "tiffin" else [])


@renders
def test_a_server_that_ends_has_the_time_for_it(name: str) -> None:
    for deployment in servers(name):
        found = settings(name, deployment)
        grace, timeout = float(found["TIFFIN_SHUTDOWN_GRACE_SECONDS"]), float(found["TIFFIN_TIMEOUT_SECONDS"])
        waits = {
            container["name"]: float(container["lifecycle"]["preStop"]["exec"]["command"][1])
            for container in pod(deployment)["containers"]
        }
        needed = waits["tiffin"] + grace + timeout + LAST_RESORT_SECONDS
        assert pod(deployment)["terminationGracePeriodSeconds"] >= needed
        assert waits.get("redis", waits["tiffin"] + grace) == waits["tiffin"] + grace


@renders
def test_a_server_has_every_probe_but_with_podman(name: str) -> None:
    for deployment in servers(name):
        probes = {key: probe for key, probe in pod(deployment)["containers"][0].items() if key.endswith("Probe")}
        asked = {key: probe.get("grpc") or probe.get("httpGet", {}).get("path") for key, probe in probes.items()}
        ready = {"port": GRPC_PORT} if "grpc-probes" in RENDERS[name][1] else "/readyz"
        if name == "podman":
            assert asked == {"livenessProbe": None}
        elif name == "course":
            health = f"{settings(name, deployment)['TIFFIN_ROOT_PATH']}/health"
            assert asked == {"startupProbe": health, "readinessProbe": health, "livenessProbe": health}
        else:
            assert asked == {"startupProbe": ready, "readinessProbe": ready, "livenessProbe": "/livez"}


@renders
def test_every_image_has_a_tag(name: str) -> None:
    for deployment in manifests(name, *WORKLOADS):
        for container in containers(deployment):
            assert container["image"].rpartition("/")[2].partition(":")[2]


@pytest.mark.parametrize("name", TOLD_THE_IMAGE)
def test_a_shared_cluster_gets_no_image_that_nobody_named(name: str) -> None:
    # RFC 6761: no name under .invalid is ever found.
    for deployment in servers(name):
        assert pod(deployment)["containers"][0]["image"].startswith("set-the-image.invalid/")
    for deployment in manifests(name, "Deployment"):
        assert [container for container in containers(deployment) if container["image"].endswith(":latest")] == []


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_cluster_gets_a_namespace_that_admits_restricted_pods_only(name: str) -> None:
    (namespace,) = manifests(name, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [found for found in manifests(name) if found != namespace]
    assert {found["metadata"].get("namespace") for found in others} == {namespace["metadata"]["name"]}


@pytest.mark.parametrize("model", MODELS)
def test_in_production_a_model_has_a_deployment_of_its_own(model: str) -> None:
    (deployment,) = [
        found for found in servers("production") if settings("production", found)["TIFFIN_MODELS"] == model
    ]
    target = deployment["metadata"]["name"]
    assert target == f"tiffin-{model.replace('_', '-')}"
    assert [name for _, name in scaled("production")].count(target) == 1
    budgets = manifests("production", "PodDisruptionBudget")
    assert [selects(found["spec"]["selector"]["matchLabels"], labels(deployment)) for found in budgets].count(True) == 1
    routes = [rule for route in manifests("production", "HTTPRoute") for rule in route["spec"]["rules"]]
    # Its clients know the model for pictures by that path, too.
    alias = ["/predict/image"] if model == "image" else []
    prefixes = [f"/{model}", *alias, f"/v2/models/{model}"]
    paths = [{"path": {"type": "PathPrefix", "value": prefix}} for prefix in prefixes]
    (rule,) = [rule for rule in routes if rule["matches"] == paths]
    (backend,) = rule["backendRefs"]
    assert selects(named("production", "Service")[backend["name"]]["spec"]["selector"], labels(deployment))


def test_in_production_a_model_has_a_host_of_its_own_for_grpc() -> None:
    hosts = {}
    for route in manifests("production", "GRPCRoute"):
        (host,), (rule,) = route["spec"]["hostnames"], route["spec"]["rules"]
        (backend,) = rule["backendRefs"]
        hosts[backend["name"]] = host
    names = [model.replace("_", "-") for model in MODELS]
    assert hosts == {f"tiffin-{name}": f"{name}.tiffin.example.com" for name in names}


def test_production_has_models_and_one_redis_and_nothing_else() -> None:
    names = {f"tiffin-{model.replace('_', '-')}" for model in MODELS}
    assert named("production", "Deployment").keys() == names | {"tiffin-redis"}


def shares(name: str) -> list[dict[str, int]]:
    """Return the weights of the Services that each rule of a render's routes leads to."""
    if name == "canary":
        (route,) = manifests(name, "VirtualService")
        parts = [rule["route"] for rule in route["spec"]["http"]]
        return [{part["destination"]["host"]: part["weight"] for part in part_list} for part_list in parts]
    rules = [rule for route in manifests(name, "HTTPRoute", "GRPCRoute") for rule in route["spec"]["rules"]]
    return [{backend["name"]: backend["weight"] for backend in rule["backendRefs"]} for rule in rules]


@pytest.mark.parametrize("name", ["canary", "canary-gateway-api"])
def test_the_canary_gets_few_requests_and_runs_another_version(name: str) -> None:
    weights, also = shares(name)
    assert weights == also
    assert sum(weights.values()) == 100
    assert weights["tiffin-canary"] < weights["tiffin-stable"]
    images = {found["metadata"]["name"]: pod(found)["containers"][0]["image"] for found in servers(name)}
    assert len(set(images.values())) == 2
    assert images.keys() == weights.keys()


@pytest.mark.parametrize("part", ["driver", "executor"])
def test_a_spark_application_has_restricted_pods(part: str) -> None:
    spec = manifests("scoring-spark", "SparkApplication")[0]["spec"]
    assert {next(iter(volume.keys() - {"name"})) for volume in spec["volumes"]} <= VOLUMES
    assert {mount["name"] for mount in spec[part]["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    context = spec[part]["podSecurityContext"] | spec[part]["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] is True


def test_a_spark_application_has_the_spark_and_the_file_of_its_image() -> None:
    spec = manifests("scoring-spark", "SparkApplication")[0]["spec"]
    dockerfile = (ROOT / "scoring" / "Dockerfile").read_text(encoding="utf-8")
    pins = (ROOT / "requirements" / "spark.txt").read_text(encoding="utf-8")
    assert f"FROM apache/spark:{spec['sparkVersion']}-" in dockerfile
    assert f"\npyspark=={spec['sparkVersion']}\n" in pins
    assert spec["mainApplicationFile"] == "local:///opt/tiffin/scoring/spark.py"
    assert "WORKDIR /opt/tiffin\n" in dockerfile


def test_the_driver_may_start_executors_and_they_may_nothing() -> None:
    (binding,) = manifests("scoring-spark", "RoleBinding")
    spec = manifests("scoring-spark", "SparkApplication")[0]["spec"]
    driver, executor = spec["driver"]["serviceAccount"], spec["executor"]["serviceAccount"]
    assert [subject["name"] for subject in binding["subjects"]] == [driver]
    assert binding["roleRef"]["name"] in named("scoring-spark", "Role")
    accounts = named("scoring-spark", "ServiceAccount")
    assert (accounts[driver]["automountServiceAccountToken"], accounts[executor]["automountServiceAccountToken"]) == (
        True,
        False,
    )


def test_the_image_of_a_spark_application_can_be_set(tmp_path: Path) -> None:
    source = os.path.relpath(K8S / "scoring" / "spark", os.path.realpath(tmp_path))
    change = {"resources": [source], "images": [{"name": "tiffin-spark", "newName": "r/spark", "newTag": "2"}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(change))
    assert "\n  image: r/spark:2\n" in kustomize(tmp_path)
