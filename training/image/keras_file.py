"""Image classifiers of the user's own, as Keras files or SavedModels.

TensorFlow has an environment of its own, `make tensorflow`: a program there converts the model to ONNX, and predicts
with the original, with which the graph is then compared as it is served.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.image import Upload
from models.model import Array
from training.artifact import Artifact, ProgressCallback, TrainingError, require
from training.image import real_pictures
from training.image.onnx_file import PIXELS, Source, image_input, load_graph, train_from_graph

PYTHON = Path(sys.prefix) / "tensorflow" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
PROGRAM = Path(__file__).with_name("keras_convert.py")


def train_from_keras(
    path: Path, labels_path: Path, quantized: bool, data: Path | None, report: ProgressCallback
) -> Artifact:
    """Make the artifact of a Keras model: pixels 0 to 255 as float32 (n, height, width, 3) -> (n, labels).

    Pictures are resized as a whole, whatever their proportions. Raises TrainingError if it cannot be served or predicts
    otherwise than Keras does.
    """
    report("converting", 0.0)
    require(path, "Keras model")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        run("convert", path, file)
        _, height, width = image_input(load_graph(file), path)

        def predicted(uploads: Sequence[Upload]) -> Array:
            pictures, outputs = Path(folder) / "pictures.npy", Path(folder) / "outputs.npy"
            shown = (real_pictures.shown(upload) for upload in uploads)
            resized = [np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)) for picture in shown]
            np.save(pictures, np.stack(resized))
            run("predict", path, pictures, outputs)
            found: Array = np.load(outputs)
            return found

        settings: dict[str, Any] = {"width": width, "height": height, **PIXELS}
        source = Source(file, path, "tensorflow keras", settings, predicted)
        return train_from_graph(source, labels_path, quantized, data, report)


def run(command: str, *paths: Path) -> None:
    """Run a command of the program in TensorFlow's environment; raise TrainingError with what it says of a fault."""
    if not PYTHON.is_file():
        raise TrainingError("Keras models need TensorFlow, in an environment of its own: make tensorflow")
    arguments = [str(PYTHON), "-P", str(PROGRAM), command, *map(str, paths)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
        raise TrainingError(f"{paths[0]} is no usable Keras model: {told}")
