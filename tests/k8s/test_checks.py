"""All renders pass the schemas of Kubernetes and of custom resources and the policy lint; broken manifests fail."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.manifests import RENDERS, Manifest, kustomize, manifests, rendered

FOLDER = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
KUBERNETES_VERSIONS = ["1.29", "1.33", "1.37"]
# API groups whose schemas custom-resources.mjs has; Kubernetes must know all others.
CUSTOM_GROUPS = {
    "cert-manager.io",
    "gateway.networking.k8s.io",
    "keda.sh",
    "monitoring.coreos.com",
    "networking.istio.io",
}
# API groups whose one kind has a schema in a file of this folder.
SCHEMAS = {
    "http.keda.sh": "http-scaled-object.schema.json",
    "sparkoperator.k8s.io": "spark-application.schema.json",
}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def group(manifest: Manifest) -> str:
    return str(manifest["apiVersion"]).partition("/")[0]


def is_custom(manifest: Manifest) -> bool:
    return group(manifest) in CUSTOM_GROUPS


def is_core(manifest: Manifest) -> bool:
    return not is_custom(manifest) and group(manifest) not in SCHEMAS


def write(folder: Path, name: str, found: list[Manifest]) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump_all(found))
    return file


def check_core(version: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """Run kubernetes-validate, which is silent when it finds nothing wrong."""
    return run(BIN / "kubernetes-validate", "--strict", "--quiet", "--kubernetes-version", version, *files)


def check_custom(*files: Path) -> subprocess.CompletedProcess[str]:
    return run("node", FOLDER / "custom-resources.mjs", *files)


def check_schema(manifest: Manifest) -> list[str]:
    """Return what is wrong with a manifest of SCHEMAS; keys that its schema does not name are."""
    schema = closed(json.loads((FOLDER / SCHEMAS[group(manifest)]).read_text(encoding="utf-8")))
    errors = jsonschema.Draft7Validator(schema).iter_errors(manifest)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


def closed(schema: Any) -> Any:
    """Return a schema whose objects have no other properties than it names, which Kubernetes would drop."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(part) for key, part in schema.items()}
    is_open = {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & found.keys()
    is_object = found.get("type") == "object" and "properties" in found and not is_open
    return found | {"additionalProperties": False} if is_object else found


def violations(folder: Path) -> dict[str, set[str]]:
    """Return the policies that the files of a folder violate, by name of the file without suffix."""
    done = run(BIN / "checkov", "--config-file", FOLDER / "checkov.yaml", "--directory", folder)
    found = defaultdict(set)
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 0
    assert report["summary"]["parsing_errors"] == 0
    for failed in report["results"]["failed_checks"]:
        found[Path(failed["file_path"]).stem].add(f"{failed['check_id']} {failed['resource']}")
    return dict(found)


def changed(manifest: Manifest, change: Callable[[Any], object]) -> Manifest:
    """Return a copy of a manifest with a change."""
    copied = copy.deepcopy(manifest)
    change(copied)
    return copied


def only(name: str, kind: str) -> Manifest:
    (found,) = manifests(name, kind)
    return found


def pod(manifest: Manifest) -> Any:
    return manifest["spec"]["template"]["spec"]


# How many manifests a render has at least, where it is small.
LEAST = {"gateway-http-add-on": 1, "loadtest": 2, "scoring-job": 2}


@pytest.mark.parametrize("name", RENDERS)
def test_it_renders(name: str) -> None:
    assert len(manifests(name)) >= LEAST.get(name.partition("+")[0], 4)


def test_what_refers_to_a_missing_file_does_not_render(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [deploymnet.yaml]")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        kustomize(tmp_path)
    assert "deploymnet.yaml" in caught.value.stderr


def test_what_has_a_misspelt_key_does_not_render(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("ressources: []")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        kustomize(tmp_path)
    assert "ressources" in caught.value.stderr


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_knows_what_is_rendered(version: str, tmp_path: Path) -> None:
    files = [write(tmp_path, name, [found for found in manifests(name) if is_core(found)]) for name in RENDERS]
    done = check_core(version, *files)
    assert (done.returncode, done.stdout) == (0, "")


BROKEN_DEPLOYMENTS: dict[str, Callable[[Any], object]] = {
    "misspelt key": lambda found: pod(found).update(terminationGracePeriod=30),
    "wrong type": lambda found: found["spec"].update(replicas="two"),
    "misspelt kind": lambda found: found.update(kind="Deploymnet"),
    "version that is gone": lambda found: found.update(apiVersion="extensions/v1beta1"),
}


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("change", BROKEN_DEPLOYMENTS.values(), ids=BROKEN_DEPLOYMENTS)
def test_kubernetes_does_not_know_a(version: str, change: Callable[[Any], object], tmp_path: Path) -> None:
    file = write(tmp_path, "broken", [changed(only("local", "Deployment"), change)])
    done = check_core(version, file)
    assert done.stdout != ""


def test_custom_resources_are_as_defined(tmp_path: Path) -> None:
    found = {name: [found for found in manifests(name) if is_custom(found)] for name in RENDERS}
    assert {resource["kind"] for resources in found.values() for resource in resources} == {
        "Certificate",
        "ClusterIssuer",
        "DestinationRule",
        "GRPCRoute",
        "Gateway",
        "GatewayClass",
        "HTTPRoute",
        "PodMonitor",
        "PrometheusRule",
        "ReferenceGrant",
        "ScaledObject",
        "ServiceMonitor",
        "TriggerAuthentication",
        "VirtualService",
    }
    done = check_custom(*(write(tmp_path, name, resources) for name, resources in found.items() if resources))
    assert done.returncode == 0, done.stderr


BROKEN_RESOURCES: dict[str, tuple[str, str, Callable[[Any], object]]] = {
    "DestinationRule": (
        "base+istio",
        "baseEjectTime",
        lambda found: found["spec"]["trafficPolicy"]["outlierDetection"].update(baseEjectTime="30s"),
    ),
    "VirtualService": ("base+istio", "retrys", lambda found: found["spec"]["http"][0].update(retrys={})),
    "Certificate": ("gateway-istio", "secret", lambda found: found["spec"].update(secret="tiffin-tls")),
    "GRPCRoute": ("base+gateway-api", "timeouts", lambda found: found["spec"]["rules"][0].update(timeouts={})),
    "ReferenceGrant": ("gateway-http-add-on", "source", lambda found: found["spec"].update(source=[])),
    "HTTPRoute": ("base+gateway-api", "timeout", lambda found: found["spec"]["rules"][0].update(timeout={})),
    "ScaledObject": ("base+autoscaling-keda", "minReplicas", lambda found: found["spec"].update(minReplicas=2)),
    "PodMonitor": ("base+monitoring", "endpoints", lambda found: found["spec"].update(endpoints=[])),
    "TriggerAuthentication": ("base+jobs-keda", "secretTarget", lambda found: found["spec"].update(secretTarget=[])),
    "ServiceMonitor": ("base+monitoring", "endpoint", lambda found: found["spec"].update(endpoint=[])),
    "PrometheusRule": ("base+monitoring", "alerts", lambda found: found["spec"]["groups"][0].update(alerts=[])),
}


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the complaints about resources with an unknown or missing key, kind or group."""
    folder = tmp_path_factory.mktemp("broken")
    broken = [changed(only(name, kind), change) for kind, (name, _, change) in BROKEN_RESOURCES.items()]
    scaled = only("base+autoscaling-keda", "ScaledObject")
    broken += [scaled | {"kind": "ScaleObject"}, scaled | {"apiVersion": "keda.example.com/v1alpha1"}]
    broken += [changed(scaled, lambda found: found["spec"].pop("triggers"))]
    done = check_custom(write(folder, "broken", broken))
    assert done.returncode == 1
    return done.stderr.splitlines()


@pytest.mark.parametrize("kind", BROKEN_RESOURCES)
def test_a_misspelt_key_is_found_in_a(kind: str, complaints: list[str]) -> None:
    key = BROKEN_RESOURCES[kind][1]
    assert [line for line in complaints if line.startswith(f"broken.yaml: {kind}/tiffin") and f'"{key}"' in line]


def test_a_missing_key_is_found_in_a_custom_resource(complaints: list[str]) -> None:
    assert [line for line in complaints if "ScaledObject" in line and "triggers" in line]


def test_a_misspelt_kind_of_a_custom_resource_is_found(complaints: list[str]) -> None:
    assert [line for line in complaints if "ScaleObject" in line and "no such kind" in line]


def test_a_custom_resource_of_a_group_that_nobody_checks_is_found(complaints: list[str]) -> None:
    assert [line for line in complaints if "keda.example.com" in line]


def test_resources_of_a_schema_are_as_defined() -> None:
    found = [found for name in RENDERS for found in manifests(name) if group(found) in SCHEMAS]
    assert {resource["kind"] for resource in found} == {"HTTPScaledObject", "SparkApplication"}
    assert [check_schema(resource) for resource in found] == [[]] * len(found)


@pytest.mark.parametrize(
    ("kind", "key", "change"),
    [
        ("SparkApplication", "instanecs", lambda found: found["spec"]["executor"].update(instanecs=2)),
        ("SparkApplication", "spec.mode", lambda found: found["spec"].update(mode="clustered")),
        ("SparkApplication", "sparkVersion", lambda found: found["spec"].pop("sparkVersion")),
        ("SparkApplication", "spec.driver.memory", lambda found: found["spec"]["driver"].update(memory=1)),
        ("HTTPScaledObject", "host", lambda found: found["spec"].update(host="tiffin.example.com")),
        ("HTTPScaledObject", "spec.replicas.min", lambda found: found["spec"]["replicas"].update(min="none")),
        ("HTTPScaledObject", "service", lambda found: found["spec"]["scaleTargetRef"].pop("service")),
    ],
)
def test_a_mistake_is_found_by_a_schema(kind: str, key: str, change: Callable[[Any], object]) -> None:
    render = {"SparkApplication": "scoring-spark", "HTTPScaledObject": "base+scale-to-zero-http"}[kind]
    (told,) = check_schema(changed(only(render, kind), change))
    assert key in told


def test_no_policy_is_violated(tmp_path: Path) -> None:
    for name in RENDERS:
        (tmp_path / f"{name}.yaml").write_text(rendered(name))
    assert violations(tmp_path) == {}


# A policy and how to violate it.
VIOLATIONS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "privileged": ("CKV_K8S_16", lambda found: pod(found)["containers"][0]["securityContext"].update(privileged=True)),
    "root": ("CKV_K8S_23", lambda found: pod(found)["securityContext"].update(runAsNonRoot=False, runAsUser=0)),
    "escalation": (
        "CKV_K8S_20",
        lambda found: pod(found)["containers"][0]["securityContext"].update(allowPrivilegeEscalation=True),
    ),
    "writable-root": (
        "CKV_K8S_22",
        lambda found: pod(found)["containers"][0]["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    "capabilities": ("CKV_K8S_37", lambda found: pod(found)["containers"][0]["securityContext"].pop("capabilities")),
    "no-seccomp": ("CKV_K8S_31", lambda found: pod(found)["securityContext"].pop("seccompProfile")),
    "no-memory-limit": ("CKV_K8S_13", lambda found: pod(found)["containers"][0]["resources"]["limits"].pop("memory")),
    "token": ("CKV_K8S_38", lambda found: pod(found).update(automountServiceAccountToken=True)),
    "host-network": ("CKV_K8S_19", lambda found: pod(found).update(hostNetwork=True)),
    "no-liveness-probe": ("CKV_K8S_8", lambda found: pod(found)["containers"][0].pop("livenessProbe")),
}


@pytest.fixture(scope="module")
def broken_policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    folder = tmp_path_factory.mktemp("broken")
    deployment = only("local", "Deployment")
    for name, (_, change) in VIOLATIONS.items():
        write(folder, name, [changed(deployment, change)])
    return violations(folder)


@pytest.mark.parametrize("name", VIOLATIONS)
def test_the_policy_lint_finds(name: str, broken_policies: dict[str, set[str]]) -> None:
    policy, _ = VIOLATIONS[name]
    assert f"{policy} Deployment.default.tiffin" in broken_policies[name]
