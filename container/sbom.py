"""Write the contents of an image as CycloneDX JSON: Python distributions, Debian packages and models.

Run as `python -m container.sbom ENGINE IMAGE FILE`; the engine is docker or podman.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ENGINE_SECONDS = 600


def output_of(*command: str) -> bytes:
    """Return what a command writes to standard output; raise subprocess.CalledProcessError if it fails."""
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=ENGINE_SECONDS).stdout


def in_image(engine: str, image: str, script: str) -> bytes:
    """Run a shell script in a container of the image and return what it writes."""
    options = ["--rm", "--network", "none", "--no-healthcheck", "--user", "0", "--entrypoint", "sh"]
    return output_of(engine, "run", *options, image, "-c", script)


def python_distributions(engine: str, image: str) -> dict[str, Any]:
    """Return the document that cyclonedx-bom makes of all Python distributions in the image."""
    archive = in_image(engine, image, "find / -xdev -type d -name '*.dist-info' | tar -cPT -")
    with tempfile.TemporaryDirectory() as folder:
        # cyclonedx-bom reads virtual environments; this one holds only the metadata of the packages.
        venv.create(folder, with_pip=False)
        (packages,) = Path(folder).glob("lib/python3*/site-packages")
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            for member in files.getmembers():
                head, found, tail = member.name.rpartition(".dist-info/")
                if found:
                    member.name = f"{Path(head).name}.dist-info/{tail}"
                    files.extract(member, packages, filter="data")
        command = [
            sys.executable,
            "-m",
            "cyclonedx_py",
            "environment",
            "--output-reproducible",
            "--no-validate",
            folder,
        ]
        document: dict[str, Any] = json.loads(output_of(*command))
    return document


def debian_packages(engine: str, image: str) -> list[dict[str, Any]]:
    """Return a component for every Debian package in the image; `upstream` names the source package of each."""
    fields = "${Package} ${Version} ${source:Package} ${source:Version} ${Architecture}"
    script = f". /etc/os-release; dpkg-query -W -f '{fields} '$ID-$VERSION_ID'\\n'"
    components = []
    for line in in_image(engine, image, script).decode().splitlines():
        name, version, *source, architecture, release = line.split()
        qualifiers = urlencode({"arch": architecture, "distro": release, "upstream": "@".join(source)})
        purl = f"pkg:deb/debian/{name}@{version.replace('+', '%2B')}?{qualifiers}"
        components.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return components


def models(engine: str, image: str) -> list[dict[str, Any]]:
    """Return a component for every model in the image, with the version of its store entry."""
    bento = yaml.safe_load(in_image(engine, image, "cat $BENTO_PATH/bento.yaml"))
    tags = [model["tag"] for service in bento["services"] for model in service["models"]]
    return [
        {"type": "machine-learning-model", "bom-ref": tag, "name": tag.split(":")[0], "version": tag.split(":")[1]}
        for tag in tags
    ]


def main(engine: str, image: str, file: Path) -> None:
    """Write the document to the file; exit with a message if it is not valid."""
    document = python_distributions(engine, image)
    document["components"] += debian_packages(engine, image) + models(engine, image)
    labels = json.loads(output_of(engine, "image", "inspect", "--format", "{{json .Config.Labels}}", image))
    version = labels["org.opencontainers.image.version"]
    document["metadata"]["component"] = {"type": "container", "bom-ref": "image", "name": "tiffin", "version": version}
    text = json.dumps(document, indent=1)
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        sys.exit(f"the bill of materials is not valid: {error}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")
    print(f"{file}: {len(document['components'])} components of {image}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
