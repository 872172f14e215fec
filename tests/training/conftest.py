"""Models as users bring them: small, random, in folders that save_pretrained wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from tests.support.own_models import (
    labels,
    spread,
    tokenizer,
)


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random DistilBERT of two labels."""
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
    """Return the folder of a random ResNet of 1 000 labels, two of the same name, with ResNet-50's processor."""
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
    """Return the folder of a random ViT of three labels that normalises to -1..1."""
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
