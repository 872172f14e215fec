"""Models of the user's own, small and random, through the real loading code into stores of the tests' own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import onnx
import pytest
import torch
import transformers
from PIL import Image
from sklearn.datasets import load_sample_images
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from serving.bento.shipped import read_info
from tests.conftest import newest, serving, train
from tests.serving.bento.test_shipped import entry, put
from training import hub
from training.image import samples, upload
from training.image.processor import load_processor
from training.served import Served
from training.trained import TrainingError

TEXTS = ["a delight from start to finish", "dull", "not bad at all, though rather long for what it has to say"]


def tokenizer() -> Any:
    """A small WordPiece tokenizer, trained on these texts."""
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
    """The labels as a transformers configuration holds them."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def spread(head: Any) -> None:
    """Give a head weights so large that its labels differ in more than rounding."""
    torch.nn.init.normal_(head.weight)


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a random DistilBERT of two labels."""
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=300, dim=32, hidden_dim=64, n_layers=2, n_heads=4, max_position_embeddings=64, pad_token_id=0,
        **labels("NEGATIVE", "POSITIVE"),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("distilbert")
    model = transformers.DistilBertForSequenceClassification(config)
    spread(model.classifier)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a random ResNet of 1 000 labels, two of the same name, and ResNet-50's processor."""
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic",
        **labels(*(f"thing {134 if i == 517 else i}" for i in range(1_000))),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("resnet")
    model = transformers.ResNetForImageClassification(config)
    spread(model.classifier[1])
    model.save_pretrained(folder)
    processor = {"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.875, "size": {"shortest_edge": 56}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a random ViT of three labels that normalises to -1..1."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=48, patch_size=8,
        **labels("cat", "dog", "ship"),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("vit")
    model = transformers.ViTForImageClassification(config)
    spread(model.classifier)
    model.save_pretrained(folder)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 48, "width": 48}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def metadata(store: Path, name: str) -> dict[str, Any]:
    """What the newest entry of a store says of itself."""
    found: dict[str, Any] = read_info(newest(store, name))["metadata"]
    return found


def served_scores(store: Path, name: str, items: list[Any]) -> Any:
    """Outputs of the newest entry of a store, as it would be served."""
    return Served(name, newest(store, name)).outputs(items)


def made(store: Path, *options: str) -> dict[str, Any]:
    """Make a model; its metadata."""
    done = train(store, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return metadata(store, options[0])


def test_a_text_classifier_from_a_folder_gives_its_own_scores(distilbert: Path, tmp_path: Path) -> None:
    found = made(tmp_path, "sentiment", "--from-hub", str(distilbert))
    assert found["labels"] == ["NEGATIVE", "POSITIVE"]
    assert found["framework"] == "transformers DistilBertForSequenceClassification"
    assert found["origin"] == {"from": str(distilbert)}
    assert found["parity"]["inputs"] >= 500
    assert found["parity"]["different_labels"] == 0
    assert found["metrics"]["hard_sentences_accuracy"] >= 0
    model = transformers.AutoModelForSequenceClassification.from_pretrained(distilbert).eval()
    batch = transformers.AutoTokenizer.from_pretrained(distilbert)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(batch["input_ids"], batch["attention_mask"]).logits.numpy()
    assert served_scores(tmp_path, "sentiment", TEXTS) == pytest.approx(logits, abs=1e-4)


def test_quantized_scores_do_not_depend_on_the_batch(distilbert: Path, tmp_path: Path) -> None:
    found = made(tmp_path, "sentiment", "--from-hub", str(distilbert), "--quantize")
    assert found["parity"]["quantized_largest_difference"] < 0.1
    graph = onnx.load(newest(tmp_path, "sentiment") / "model.onnx").graph
    assert "MatMulIntegerToFloat" in {node.op_type for node in graph.node}
    (table,) = [weight for weight in graph.initializer if weight.name.endswith("word_embeddings.weight_rows")]
    assert table.data_type == onnx.TensorProto.INT8
    together = served_scores(tmp_path, "sentiment", TEXTS)
    alone = np.concatenate([served_scores(tmp_path, "sentiment", [text]) for text in TEXTS])
    assert together == pytest.approx(alone, abs=1e-5)


def test_a_model_of_ones_own_is_evaluated_on_data(distilbert: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "dev.tsv").write_text("a delight\tPOSITIVE\ndull\tNEGATIVE\nlong\t0\n")
    found = made(tmp_path, "sentiment", "--from-hub", str(distilbert), "--data", str(data))
    accuracy = found["card"]["metrics"]["accuracy"]
    assert accuracy["examples"] == 3
    assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1


def test_an_unknown_label_in_the_data_is_an_error_that_names_its_line(distilbert: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "dev.tsv").write_text("a delight\tPOSITIVE\ndull\tMEH\n")
    done = train(tmp_path, "sentiment", "--from-hub", str(distilbert), "--data", str(data))
    assert done.returncode == 1
    assert "line 2: 'MEH'" in done.stderr
    assert not (tmp_path / "models" / "sentiment").exists()


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_an_image_classifier_from_a_folder_gives_its_own_scores(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    entry = made(tmp_path, "image", "--from-hub", str(folder))
    assert len(set(entry["labels"])) == {"resnet": 1_000, "vit": 3}[name]
    assert entry["parity"]["different_labels"] == 0
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    processor = load_processor(hub.fetch(str(folder), None))
    photo = Image.fromarray(load_sample_images().images[1])
    pictures = [photo, photo.crop((100, 0, 300, 400)), photo.resize((31, 40))]
    with torch.no_grad():
        logits = model(**processor(pictures, return_tensors="pt")).logits.numpy()
    assert served_scores(tmp_path, "image", [upload(picture) for picture in pictures]) == pytest.approx(
        logits, abs=1e-3
    )


def test_the_server_serves_models_of_ones_own_without_a_change(distilbert: Path, resnet: Path, tmp_path: Path) -> None:
    made(tmp_path, "sentiment", "--from-hub", str(distilbert))
    made(tmp_path, "image", "--from-hub", str(resnet), "--quantize")
    with serving(tmp_path, {"MODELS": "sentiment,image"}) as address:
        answer = httpx.post(f"{address}/sentiment/predict", json={"text": TEXTS}).json()
        found = [score["label"] for scores in answer["predictions"] for score in scores]
        assert sorted(found) == ["NEGATIVE"] * 3 + ["POSITIVE"] * 3
        picture = upload(Image.fromarray(load_sample_images().images[0])).data
        answer = httpx.post(f"{address}/image/predict", files={"image_file": picture}).json()
        assert answer["Label"].startswith("thing ")
        assert len(answer["predictions"]) == 5
        assert len(httpx.get(f"{address}/image/info").json()["labels"]) == 1_000


@pytest.mark.parametrize(("name", "operator"), [("resnet", "QuantizeLinear"), ("vit", "MatMulIntegerToFloat")])
def test_images_are_quantized_in_the_form_that_suits_the_network(
    name: str, operator: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    found = made(tmp_path, "image", "--from-hub", str(request.getfixturevalue(name)), "--quantize")
    graph = onnx.load(newest(tmp_path, "image") / "model.onnx").graph
    assert operator in {node.op_type for node in graph.node}
    assert found["parity"]["quantized_largest_difference"] < 0.5


def test_images_are_evaluated_by_the_names_of_their_folders(vit: Path, tmp_path: Path) -> None:
    for name in ("cat", "ship"):
        folder = tmp_path / "data" / "test" / name
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(samples(1)[0].data)
    found = made(tmp_path, "image", "--from-hub", str(vit), "--data", str(tmp_path / "data"))
    assert found["card"]["metrics"]["accuracy"]["examples"] == 2
    (tmp_path / "data" / "test" / "cat").rename(tmp_path / "data" / "test" / "zebra")
    done = train(tmp_path, "image", "--from-hub", str(vit), "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "the model has no label 'zebra'" in done.stderr


def write_onnx(path: Path, *, softmax: bool, batch: int | str) -> None:
    """An ONNX file of three labels: the mean of red, of green and of blue, times 4."""
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["pictures"], ["means"]),
        onnx.helper.make_node("Flatten", ["means"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", "weights"], ["product" if softmax else "output"]),
    ]
    if softmax:
        nodes.append(onnx.helper.make_node("Softmax", ["product"], ["output"], axis=1))
    graph = onnx.helper.make_graph(
        nodes,
        "means",
        [onnx.helper.make_tensor_value_info("pictures", onnx.TensorProto.FLOAT, [batch, 3, 48, 48])],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [batch, 3])],
        [onnx.numpy_helper.from_array(4 * np.eye(3, dtype=np.float32), "weights")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10), path)


def from_onnx(folder: Path, text: str = "red\ngreen\nblue\n", name: str = "labels.txt") -> list[str]:
    """Options that take `folder/model.onnx` with labels from a file of this text."""
    (folder / name).write_text(text)
    return ["image", "--from-onnx", str(folder / "model.onnx"), "--labels", str(folder / name)]


@pytest.mark.parametrize(("softmax", "batch"), [(False, "n"), (True, 1)])
def test_a_ready_onnx_file_is_served_with_its_labels(tmp_path: Path, *, softmax: bool, batch: int | str) -> None:
    write_onnx(tmp_path / "model.onnx", softmax=softmax, batch=batch)
    store = tmp_path / "store"
    found = made(store, *from_onnx(tmp_path, json.dumps({"0": "red", "1": "green", "2": "blue"}), "labels.json"))
    assert found["labels"] == ["red", "green", "blue"]
    assert found["parity"]["inputs"] >= 500
    colours = [upload(Image.new("RGB", (60, 50), colour)) for colour in ("red", "blue")]
    scores = torch.from_numpy(served_scores(store, "image", colours)).softmax(-1).numpy()
    # Red is 1 in its own channel, 0 in the others, normalised as is usual for ImageNet.
    red = 4 * (np.array([1, 0, 0]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert scores[0] == pytest.approx(torch.from_numpy(red).softmax(-1).numpy(), abs=1e-4)
    assert scores.argmax(1).tolist() == [0, 2]


def test_a_processor_beside_an_onnx_file_is_used(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", softmax=False, batch="n")
    config = {"image_processor_type": "ViTImageProcessor", "size": {"height": 48, "width": 48}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    made(tmp_path / "store", *from_onnx(tmp_path))
    (logits,) = served_scores(tmp_path / "store", "image", [upload(Image.new("RGB", (60, 50), "red"))])
    assert logits == pytest.approx([4, -4, -4], abs=1e-4)


def test_a_graph_that_takes_one_picture_at_a_time_only_is_refused(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", softmax=False, batch=1)
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 3], np.int64), "one"))
    model.graph.node[1].CopyFrom(onnx.helper.make_node("Reshape", ["means", "one"], ["flat"]))
    onnx.save(model, tmp_path / "model.onnx")
    done = train(tmp_path / "store", *from_onnx(tmp_path))
    assert done.returncode == 1
    assert "takes no batches" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [("cat\ndog\n", "its labels need (1, 2)"), ("cat\ndog\n\n", "its labels need (1, 2)"), ("", "two or more")],
)
def test_labels_that_do_not_fit_are_an_error(tmp_path: Path, text: str, message: str) -> None:
    write_onnx(tmp_path / "model.onnx", softmax=False, batch="n")
    done = train(tmp_path / "store", *from_onnx(tmp_path, text))
    assert done.returncode == 1
    assert message in done.stderr


def test_a_damaged_onnx_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    done = train(tmp_path / "store", *from_onnx(tmp_path))
    assert done.returncode == 1
    assert "is no usable ONNX file" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_hub_one_line_says_so_and_the_store_stays_as_it_was(
    distilbert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nothing answers
    made(tmp_path, "sentiment", "--from-hub", str(distilbert))
    before = sorted(tmp_path.glob("models/**/*"))
    done = train(tmp_path, "sentiment", "--from-hub", "somebody/some-model", "--revision", "abc")
    assert done.returncode == 1
    assert re.fullmatch(r"sentiment: no hub within reach to load somebody/some-model from; .*\n", done.stderr)
    assert sorted(tmp_path.glob("models/**/*")) == before


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def hub_address(distilbert: Path) -> Iterator[str]:
    """Address of a hub with one model, somebody/small, at one commit, which is also its revision v1."""
    files = {path.name: path.read_bytes() for path in distilbert.iterdir()}
    listing = [{"type": "file", "path": name, "size": len(file), "oid": "0" * 40} for name, file in files.items()]
    siblings = [{"rfilename": name} for name in files]
    api = "/api/models/somebody/small"
    answers = {
        **{
            f"{api}{path}": {"id": "somebody/small", "sha": COMMIT, "siblings": siblings}
            for path in ("", "/revision/v1")
        },
        f"{api}/tree/{COMMIT}": listing,
    }

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            file = files.get(path.removeprefix(f"/somebody/small/resolve/{COMMIT}/"))
            if file is not None:
                self.answer(200, file, {"ETag": f'"{len(file)}"', "X-Repo-Commit": COMMIT})
            elif path in answers:
                self.answer(200, json.dumps(answers[path]).encode(), {"Content-Type": "application/json"})
            else:
                kind = "RevisionNotFound" if path.startswith(api) else "RepoNotFound"
                self.answer(404, b"{}", {"X-Error-Code": kind})

        def do_HEAD(self) -> None:
            self.do_GET()

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_model_is_loaded_from_the_hub_at_its_revision_and_then_without_the_hub(
    hub_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub_address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    options = ("sentiment", "--from-hub", "somebody/small", "--revision", "v1")
    found = made(tmp_path / "first", *options)
    assert found["origin"] == {"from": "somebody/small", "revision": COMMIT}
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    again = made(tmp_path / "second", *options[:3], "--revision", COMMIT)
    assert again["origin"] == found["origin"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("somebody/small", "--revision", "v9"), "somebody/small has no revision v9 on the hub"),
        (("nobody/none",), "the hub has no model nobody/none; a private one needs HF_TOKEN"),
    ],
)
def test_what_the_hub_does_not_have_is_an_error(
    hub_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub_address)
    done = train(tmp_path, "sentiment", "--from-hub", *options)
    assert done.returncode == 1
    assert done.stderr == f"sentiment: {message}\n"


def test_a_run_without_options_keeps_a_model_of_ones_own_and_force_replaces_it(tmp_path: Path) -> None:
    own = entry(tmp_path / "own", "own", "2026-01-01T00:00:00+00:00", origin="elsewhere")
    put(tmp_path, "breast_cancer", folder=own)
    kept = train(tmp_path, "breast_cancer")
    assert "breast_cancer:own kept, your own from elsewhere" in kept.stdout
    assert newest(tmp_path, "breast_cancer").name == "own"
    assert train(tmp_path, "breast_cancer", "--force").returncode == 0
    assert "origin" not in metadata(tmp_path, "breast_cancer")


def test_a_model_without_a_trained_head_is_refused(distilbert: Path, tmp_path: Path) -> None:
    transformers.AutoModel.from_pretrained(distilbert).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=r"no trained weights .*classifier"):
        hub.load(transformers.AutoModelForSequenceClassification, hub.fetch(str(tmp_path), None))


@pytest.mark.parametrize(
    ("identifier", "message"), [("a/b/c", "neither a folder nor a name"), ("./nothing", "neither a folder nor a name")]
)
def test_what_is_no_name_on_the_hub_is_refused(identifier: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        hub.fetch(identifier, None)


def test_a_folder_without_a_model_and_a_folder_with_a_revision_are_refused(distilbert: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no config\.json"):
        hub.fetch(str(tmp_path), None)
    with pytest.raises(TrainingError, match="--revision"):
        hub.fetch(str(distilbert), "main")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from-hub", "x"], "need one model"),
        (["image", "--from-onnx", "x"], "needs --labels"),
        (["image", "--labels", "x"], "--labels belongs"),
        (["image", "--revision", "x"], "--revision belongs"),
        (["image", "--quantize"], "--quantize belongs"),
        (["image", "--from-hub", "x", "--force"], "do not go together"),
        (["evaluate", "image", "--force"], "evaluate takes only"),
    ],
)
def test_options_that_do_not_belong_together_are_an_error(options: list[str], message: str, tmp_path: Path) -> None:
    done = train(tmp_path, *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_model_that_cannot_be_taken_from_elsewhere_is_an_error(tmp_path: Path) -> None:
    done = train(tmp_path, "segmentation", "--from-hub", "x")
    assert done.returncode == 1
    assert "segmentation_own.py is missing" in done.stderr
