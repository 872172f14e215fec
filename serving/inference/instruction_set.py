"""The processor's instructions for 8-bit numbers, on which a server's speed depends."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Set
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
SYSCTL_SECONDS = 2

# Fastest first. A flag has one spelling on Linux and another on macOS; here both are lower case without separators.
X86 = (
    ("AMX", {"amxint8"}),
    ("AVX-512 VNNI", {"avx512f", "avx512vnni"}),
    ("AVX-VNNI", {"avx2", "avxvnni"}),
    ("AVX-512 (no VNNI)", {"avx512f", "avx512bw"}),
    ("AVX2", {"avx2"}),
    ("AVX", {"avx"}),
    ("SSE", {"sse2"}),
)
ARM = (
    ("I8MM", {"i8mm"}),
    ("NEON dot product", {"asimddp"}),
    ("NEON", {"asimd"}),
)
# What macOS calls Linux's flags.
MACOS = {"avx10": "avx", "avx20": "avx2", "featdotprod": "asimddp", "feati8mm": "i8mm", "neon": "asimd"}


@cache
def instruction_set() -> str:
    """Return this processor's best set of 8-bit instructions, such as "AVX-512 VNNI".

    Where the system does not tell, return the architecture, such as "AMD64".
    """
    if sys.platform == "darwin":
        found = best(macos_flags(sysctl()))
    else:
        try:
            found = best(linux_flags(CPUINFO.read_text(encoding="utf-8", errors="replace")))
        except OSError:
            found = None
    return found or platform.machine() or "unknown"


def best(flags: Set[str]) -> str | None:
    """Return the fastest set whose flags are all present, or None when there is none."""
    return next((name for name, needed in X86 + ARM if needed <= flags), None)


def linux_flags(cpuinfo: str) -> set[str]:
    """Return the flags that every core in the text of /proc/cpuinfo has."""
    # Cores of phones and notebooks may differ; a thread can be moved to any of them.
    cores = [set(map(plain, line.split())) for line in re.findall(r"(?m)^(?:flags|Features)\s*:(.*)$", cpuinfo)]
    return set.intersection(*cores) if cores else set()


def macos_flags(listed: str) -> set[str]:
    """Return the flags in the output of `sysctl hw.optional machdep.cpu`, by Linux's names."""
    features = re.findall(r"(?m)^machdep\.cpu\.(?:leaf7_)?features: (.*)$", listed)
    found = {plain(flag) for line in features for flag in line.split()}
    found |= {plain(name) for name in re.findall(r"(?m)^hw\.optional\.(?:arm\.)?(\w+): 1$", listed)}
    return found | {MACOS[name] for name in found & MACOS.keys()}


def plain(flag: str) -> str:
    """Return a flag in lower case without separators."""
    return flag.lower().replace("_", "").replace(".", "")


def sysctl() -> str:
    """Return what macOS's sysctl lists of its processor, or an empty string when it fails."""
    command = ["/usr/sbin/sysctl", "hw.optional", "machdep.cpu"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SYSCTL_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
