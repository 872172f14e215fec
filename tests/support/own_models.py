"""Small, random models as users bring them, trained into stores that belong to the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from serving.bento.shipped import read_info
from tests.support.processes import train
from tests.support.stores import newest
from training.served import Served

TEXTS = ["a delight from start to finish", "dull", "not bad at all, though rather long for what it has to say"]


def tokenizer() -> Any:
    """Return a small WordPiece tokenizer trained on TEXTS."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    fast: Any = transformers.PreTrainedTokenizerFast
    return fast(tokenizer_object=made, model_max_length=64, **names)


def labels(*names: str) -> dict[str, Any]:
    """Return labels as a transformers configuration stores them."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def spread(head: Any) -> None:
    """Set weights of a head so large that its logits differ by more than rounding."""
    torch.nn.init.normal_(head.weight)


def metadata(store: Path, name: str) -> dict[str, Any]:
    """Return the metadata of the newest store entry of a model."""
    found: dict[str, Any] = read_info(newest(store, name))["metadata"]
    return found


def served_scores(store: Path, name: str, items: list[Any]) -> Any:
    """Return the outputs of the newest store entry of a model, computed as the server does."""
    return Served(name, newest(store, name)).outputs(items)


def made(store: Path, *options: str) -> dict[str, Any]:
    """Train a model into the store with these options; return its metadata."""
    done = train(store, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return metadata(store, options[0])


def write_onnx(path: Path, *, softmax: bool, batch: int | str, channels_last: bool = False) -> None:
    """Write an ONNX image classifier with three outputs: the means of red, green and blue, times 4."""
    nodes = [
        onnx.helper.make_node("Transpose", ["pictures"], ["turned"], perm=[0, 3, 1, 2] if channels_last else range(4)),
        onnx.helper.make_node("GlobalAveragePool", ["turned"], ["means"]),
        onnx.helper.make_node("Flatten", ["means"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", "weights"], ["product" if softmax else "output"]),
    ]
    if softmax:
        nodes.append(onnx.helper.make_node("Softmax", ["product"], ["output"], axis=1))
    shape = (48, 48, 3) if channels_last else (3, 48, 48)
    graph = onnx.helper.make_graph(
        nodes,
        "means",
        [onnx.helper.make_tensor_value_info("pictures", onnx.TensorProto.FLOAT, [batch, *shape])],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [batch, 3])],
        [onnx.numpy_helper.from_array(4 * np.eye(3, dtype=np.float32), "weights")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10), path)


def from_onnx(folder: Path, text: str = "red\ngreen\nblue\n", name: str = "labels.txt") -> list[str]:
    """Write a file of labels; return the training options that import `folder/model.onnx` with it."""
    (folder / name).write_text(text)
    return ["image", "--from-onnx", str(folder / "model.onnx"), "--labels", str(folder / name)]
