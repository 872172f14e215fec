"""Models that could not be served as their source predicts are refused, in one line that says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import transformers

from tests.support.own_models import from_onnx, labels, spread, tokenizer, write_onnx
from tests.support.processes import train
from tests.support.progress import ignore
from training import hub, own
from training.artifact import TrainingError
from training.image import real_pictures
from training.image.onnx_file import read_labels, train_from_onnx
from training.sentiment import own as sentiment_own
from training.sentiment import real_texts


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a random BERT of two labels."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, **labels("NEGATIVE", "POSITIVE"),
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def source(folder: Path) -> hub.Pretrained:
    """Return a folder as a source of models."""
    return hub.Pretrained(folder, "theirs", None)


def refused(folder: Path, message: str) -> None:
    """Assert that the text classifier in a folder is refused with this message."""
    with pytest.raises(TrainingError, match=message) as caught:
        sentiment_own.train_from_hub(source(folder), False, None, ignore)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
@pytest.mark.parametrize("auto", ["AutoModelForSequenceClassification", "AutoModelForImageClassification"])
def test_a_model_whose_labels_do_not_exclude_each_other_is_refused(auto: str, kind: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {**labels("people", "water"), "problem_type": kind}
    config: Any
    if auto == "AutoModelForImageClassification":
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], **options)
    else:
        config = transformers.DistilBertConfig(dim=16, hidden_dim=16, n_layers=1, n_heads=2, vocab_size=9, **options)
    getattr(transformers, auto).from_config(config).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=f"theirs does {kind}, served is one label of several"):
        hub.load(getattr(transformers, auto), source(tmp_path))


def test_a_model_of_a_single_score_is_refused(bert: Any) -> None:
    bert.config.id2label = {0: "score"}
    with pytest.raises(TrainingError, match="theirs has 1 label"):
        own.label_names(bert, source(Path()))
    bert.config.id2label = {0: "NEGATIVE", 1: "POSITIVE"}


def test_a_model_without_a_tokenizer_is_refused(bert: Any, tmp_path: Path) -> None:
    bert.save_pretrained(tmp_path)
    refused(tmp_path, r"theirs has no tokenizer, none of tokenizer\.json, vocab\.txt")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    refused(tmp_path, "theirs has no tokenizer")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "knows no word"),
        ([f"word{i}" for i in range(400)], "gives ids up to 404, its model knows those below 300"),
    ],
)
def test_a_tokenizer_that_does_not_fit_its_model_is_refused(
    bert: Any, words: list[str], message: str, tmp_path: Path
) -> None:
    bert.save_pretrained(tmp_path)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (tmp_path / "vocab.txt").write_text("\n".join([*special, *words]))
    refused(tmp_path, message)


def test_a_tokenizer_without_a_fast_form_is_refused(bert: Any, tmp_path: Path) -> None:
    bert.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CanineTokenizer"}))
    refused(tmp_path, "theirs: CanineTokenizer has no fast form")


@pytest.mark.parametrize(
    ("config", "files", "package"),
    [
        ({"model_type": "deberta-v2"}, {"spm.model": b"\n\x0e"}, "sentencepiece"),
        ({"model_type": "xlm-roberta"}, {"sentencepiece.bpe.model": b"\n\x0e"}, "sentencepiece"),
        ({"model_type": "bert-generation"}, {"spiece.model": b"\n\x0e"}, "sentencepiece"),
        ({"model_type": "llama"}, {"tokenizer.model": b"IQ== 0\nIg== 1\n"}, "tiktoken"),
        ({"model_type": "flaubert"}, {"vocab.json": b"{}", "merges.txt": b"#\n"}, "sacremoses"),
    ],
)
def test_a_package_that_a_tokenizer_needs_is_named(
    config: dict[str, str], files: dict[str, bytes], package: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match=f"theirs needs the package {package}, .*pip install {package}$"):
        hub.from_pretrained(transformers.AutoTokenizer, source(tmp_path), "theirs has no usable tokenizer")


def test_a_package_that_a_network_needs_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "resnet18", "num_classes": 9, "pretrained_cfg": {}})
    )
    done = train(tmp_path / "store", "image", "--from-hub", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        f"image: {tmp_path} needs the package timm, which is not installed: .venv/bin/python -m pip install timm\n"
    )


@pytest.mark.parametrize("auto", ["AutoModelForSequenceClassification", "AutoTokenizer"])
def test_code_that_comes_with_a_model_is_not_run(auto: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    code = {"AutoConfig": "code.Config", auto: "code.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "theirs", "auto_map": code}))
    with pytest.raises(TrainingError, match=r"theirs brings code of its own \(trust_remote_code\), which is not run"):
        hub.from_pretrained(getattr(transformers, auto), source(tmp_path), "theirs is no model")
    assert not (tmp_path / "was_run").exists()


def test_damaged_weights_are_refused(bert: Any, tmp_path: Path) -> None:
    bert.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(TrainingError, match="theirs is no model for AutoModelForSequenceClassification: "):
        hub.load(transformers.AutoModelForSequenceClassification, source(tmp_path))


def test_a_tokenizer_that_works_otherwise_than_the_server_is_refused(bert: Any, tmp_path: Path) -> None:
    spread(bert.classifier)
    bert.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"truncation_side": "left"}))
    refused(tmp_path, "the exported graph")


def test_inputs_that_are_compared_are_real_and_different() -> None:
    texts = real_texts.texts()
    assert len(set(texts)) == len(texts) > 200
    assert max(map(len, texts)) > 5_000
    sizes = {real_pictures.shown(upload).size for upload in real_pictures.pictures(64)}
    assert len(sizes) > 60


def test_an_onnx_file_of_labels_that_do_not_exclude_each_other_is_refused(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", softmax=True, batch="n")
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Sigmoid", ["product"], ["output"]))
    onnx.save(model, tmp_path / "model.onnx")
    from_onnx(tmp_path)
    with pytest.raises(TrainingError, match="gives each label a probability of its own"):
        train_from_onnx(tmp_path / "model.onnx", tmp_path / "labels.txt", False, None, ignore)


def test_probabilities_are_known_by_their_sum_whatever_makes_them(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", softmax=True, batch="n")
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.node[-1].output[0] = "shares"
    model.graph.node.append(onnx.helper.make_node("Identity", ["shares"], ["output"]))
    onnx.save(model, tmp_path / "model.onnx")
    from_onnx(tmp_path)
    found = train_from_onnx(tmp_path / "model.onnx", tmp_path / "labels.txt", False, None, ignore)
    assert found.parity["largest_difference"] < 1e-4


def test_labels_of_the_same_name_are_told_apart() -> None:
    named = ["crane", "dog", "crane", "maillot", "maillot", "crane (2)"]
    found = own.tell_apart(named)
    assert found == ["crane (0)", "dog", "crane (2) (2)", "maillot (3)", "maillot (4)", "crane (2)"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "crane\ndog\ncrane\n"),
        ("labels.txt", "\ufeffcrane\r\ndog\r\ncrane \r\n"),
        ("labels.json", '["crane", "dog", "crane"]'),
        ("labels.json", '{"0": "crane", "1": "dog", "2": "crane"}'),
        ("labels.json", '{"0": ["n02012849", "crane"], "1": ["n0", "dog"], "2": ["n03126707", "crane"]}'),
    ],
)
def test_labels_of_a_file_are_told_apart(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert read_labels(tmp_path / name) == ["crane (0)", "dog", "crane (2)"]


def test_labels_of_a_file_that_is_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("crane\nchat sauvage é\n".encode("utf-16"))
    with pytest.raises(TrainingError, match="no text in UTF-8"):
        read_labels(tmp_path / "labels.txt")
