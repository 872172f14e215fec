"""Real texts of great variety, on which users' own models are compared with their originals."""

from __future__ import annotations

import json
from pathlib import Path

from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

# Texts that tokenizers treat in different ways: accents in both forms, case, scripts, emoji, white space, control
# characters, code, special tokens.
ODD_TEXTS = Path(__file__).parent / "odd_texts.json"


def texts() -> list[str]:
    """Return about 250 texts: lines of scikit-learn's descriptions of data, in any case and length, and odd texts."""
    described = [load().DESCR for load in (load_iris, load_wine, load_diabetes, load_digits, load_breast_cancer)]
    lines = [line.strip() for text in described for line in text.splitlines()]
    prose = list(dict.fromkeys(line for line in lines if len(line) > 20))
    changes = (
        str,
        str.upper,
        str.title,
        str.swapcase,
        lambda line: f"{line} 😀 déjà",
        lambda line: f"{line}\n\n{line}",
    )
    odd: list[str] = json.loads(ODD_TEXTS.read_text(encoding="utf-8"))
    changed = [changes[number % len(changes)](line) for number, line in enumerate(prose)]
    # Texts longer than any model takes, with spaces and without.
    return [*changed, *described, "".join(prose).replace(" ", "")[:9_000], *odd]
