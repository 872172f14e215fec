"""Detection of the 8-bit instructions of a processor, on each operating system."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from serving.inference import instruction_set

SKYLAKE = "fpu sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c avx2 avx512f avx512dq avx512cd avx512bw avx512vl"
LINUX = {
    "Intel Sapphire Rapids": (f"flags\t\t: {SKYLAKE} avx_vnni avx512_vnni amx_bf16 amx_tile amx_int8", "AMX"),
    "Intel Cascade Lake": (f"flags\t\t: {SKYLAKE} avx512_vnni", "AVX-512 VNNI"),
    "AMD Zen 4": (f"flags\t\t: {SKYLAKE} avx512ifma avx512_bf16 avx512vbmi gfni avx512_vnni", "AVX-512 VNNI"),
    "Intel Alder Lake": ("flags\t\t: fpu sse sse2 ssse3 fma avx f16c avx2 gfni avx_vnni", "AVX-VNNI"),
    "Intel Skylake": (f"flags\t\t: {SKYLAKE}", "AVX-512 (no VNNI)"),
    "AMD Zen 3": ("flags\t\t: fpu sse sse2 ssse3 sse4a fma avx f16c avx2 vaes vpclmulqdq", "AVX2"),
    "Intel Ivy Bridge": ("flags\t\t: fpu sse sse2 ssse3 sse4_1 sse4_2 avx f16c", "AVX"),
    "Intel Core 2": ("flags\t\t: fpu sse sse2 ssse3", "SSE"),
    "AWS Graviton3": ("Features\t: fp asimd evtstrm aes crc32 atomics asimddp sve i8mm bf16", "I8MM"),
    "AWS Graviton2": ("Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp asimddp", "NEON dot product"),
    "AWS Graviton1": ("Features\t: fp asimd evtstrm aes crc32", "NEON"),
}
MACOS = {
    "Apple M1": (
        "hw.optional.neon: 1\nhw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 0\n",
        "NEON dot product",
    ),
    "Apple M2": ("hw.optional.neon: 1\nhw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 1\n", "I8MM"),
    "Intel Coffee Lake": (
        "hw.optional.avx1_0: 1\nhw.optional.avx2_0: 1\nhw.optional.avx512f: 0\n"
        "machdep.cpu.features: FPU SSE SSE2 SSSE3 FMA AVX1.0\nmachdep.cpu.leaf7_features: BMI1 AVX2 BMI2\n",
        "AVX2",
    ),
    "Intel Ice Lake": (
        "hw.optional.avx1_0: 1\nhw.optional.avx2_0: 1\nhw.optional.avx512f: 1\n"
        "machdep.cpu.features: FPU SSE SSE2 SSSE3 FMA AVX1.0\n"
        "machdep.cpu.leaf7_features: AVX2 AVX512F AVX512BW AVX512VNNI\n",
        "AVX-512 VNNI",
    ),
}


def on(monkeypatch: pytest.MonkeyPatch, system: str, cpuinfo: Path, machine: str = "x86_64") -> str:
    """Return the instruction set that is detected on such a system."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(instruction_set, "CPUINFO", cpuinfo)
    return instruction_set.instruction_set.__wrapped__()


@pytest.mark.parametrize(("flags", "expected"), LINUX.values(), ids=LINUX)
def test_linux_tells_it_in_cpuinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, expected: str) -> None:
    core = f"model name\t: of the test\n{flags}\nbugs\t\t: none\n"
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{core}\nprocessor\t: 1\n{core}", encoding="utf-8")
    assert on(monkeypatch, "linux", tmp_path / "cpuinfo") == expected


def test_cores_that_differ_have_what_they_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Features\t: asimd asimddp i8mm\n\nFeatures\t: asimd asimddp\n", encoding="utf-8")
    assert on(monkeypatch, "linux", tmp_path / "cpuinfo") == "NEON dot product"


@pytest.mark.parametrize(("listed", "expected"), MACOS.values(), ids=MACOS)
def test_macos_tells_it_by_sysctl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listed: str, expected: str) -> None:
    monkeypatch.setattr(instruction_set, "sysctl", lambda: listed)
    assert on(monkeypatch, "darwin", tmp_path / "absent") == expected


@pytest.mark.parametrize("fault", [FileNotFoundError(), subprocess.TimeoutExpired("sysctl", 1)], ids=["gone", "hangs"])
def test_macos_without_sysctl_tells_the_architecture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(subprocess, "run", fail)
    assert on(monkeypatch, "darwin", tmp_path / "absent", "arm64") == "arm64"


def test_windows_tells_the_architecture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert on(monkeypatch, "win32", tmp_path / "absent", "AMD64") == "AMD64"


@pytest.mark.parametrize("text", ["", "processor\t: 0\nisa\t: rv64imafdc\n", "flags\t\t: fpu\n"])
def test_an_unknown_processor_tells_the_architecture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    assert on(monkeypatch, "linux", tmp_path / "cpuinfo", "riscv64") == "riscv64"
