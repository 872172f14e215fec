"""Look for known vulnerabilities in pinned requirements: `python -m container.audit FILE`.

Ends with 1 when one is found. Where the service that knows them is out of reach, it says so and ends with 0.
`OSV_URL` names another such service.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

SERVICE = "https://api.osv.dev/v1/query"
AUDIT_SECONDS = 600
# What pip-audit, which has one exit code for all, writes of a service that does not answer as such.
OUT_OF_REACH = ("requests.exceptions.", "ServiceError", "Could not connect")


def main(requirements: str) -> int:
    """Print what is found; the exit code."""
    service = os.environ.get("OSV_URL", SERVICE)
    command = [sys.executable, "-m", "pip_audit", "--requirement", requirements, "--no-deps", "--disable-pip"]
    options = ["--vulnerability-service", "osv", "--osv-url", service, "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=AUDIT_SECONDS, check=False)
    if not done.stdout:
        if any(sign in done.stderr for sign in OUT_OF_REACH):
            print(f"{service} is out of reach: no vulnerability was looked for", file=sys.stderr)
            return 0
        print(done.stderr, file=sys.stderr)
        return 1
    dependencies = json.loads(done.stdout)["dependencies"]
    found = 0
    for dependency in dependencies:
        for vulnerability in dependency["vulns"]:
            found += 1
            names = ", ".join([vulnerability["id"], *vulnerability["aliases"]])
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
            print(f"{dependency['name']} {dependency['version']}: {names}, fixed in {fixed}")
    print(f"{found} known vulnerabilities in {len(dependencies)} packages of {requirements}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
