"""A Keras model needs an environment that may not be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.artifact import TrainingError
from training.image import keras_file


def test_without_tensorflow_the_target_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_file, "PYTHON", tmp_path / "absent")
    with pytest.raises(TrainingError, match="make tensorflow"):
        keras_file.train_from_keras(tmp_path, tmp_path / "labels.txt", False, None, lambda *_: None)
