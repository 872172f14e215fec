"""Tiffin's own text classifier as a transformers model: save_pretrained copies this file beside the weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class MeanPooledClassifier(BertPreTrainedModel):  # type: ignore[no-untyped-call]
    """A linear head on the mean of BERT's token vectors, see `training.sentiment.PooledClassifier`."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None, **options: Any
    ) -> SequenceClassifierOutput:
        """Classify int64 ids and mask (n, tokens); return logits (n, labels)."""
        vectors = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[..., None].to(vectors.dtype)
        return SequenceClassifierOutput(logits=self.classifier((vectors * weights).sum(1) / weights.sum(1)))
