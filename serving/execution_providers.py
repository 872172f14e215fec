"""The names that onnxruntime gives to what it computes on."""

from __future__ import annotations

SUFFIX = "ExecutionProvider"
# What computes on the processor, which is always there.
PROCESSOR = f"CPU{SUFFIX}"


def execution_provider(name: str) -> str:
    """Return onnxruntime's name for an execution provider such as cpu or cuda; raise ValueError where it has none."""
    wanted = name.lower().removesuffix(SUFFIX.lower())
    if wanted == "cpu":
        return PROCESSOR
    import onnxruntime  # takes long, and the process of `bentoml serve` does not need it

    available: dict[str, str] = {
        provider.removesuffix(SUFFIX).lower(): provider for provider in onnxruntime.get_available_providers()
    }
    if wanted not in available:
        raise ValueError(f"onnxruntime has no execution provider {name} here, it has {', '.join(sorted(available))}")
    return available[wanted]
