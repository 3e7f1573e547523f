"""RoBERTa: a BERT with byte-level BPE."""

from __future__ import annotations

from pathlib import Path

from tfrecal.text.architectures.base import Architecture, Setting
from tfrecal.text.architectures.bert import Bert
from tfrecal.text.tokenizers.byte_pairs import BytePairs
from tfrecal.text.tokenizers.padding import PAD_ID, check_padding

_FIRST_PLACE = 2  # place 0 is not used, 1 is for padding


class Roberta(Bert):
    """Bidirectional, `<s> text </s>`, byte-level BPE (outside of graphs).

    Reference:
        Liu et al. 2019, RoBERTa (arXiv 1907.11692).
    """

    kind = "roberta"
    config_name = "RobertaConfig"
    model_name = "TFRobertaModel"
    # PyTorch's class counts places from `pad_token_id`, TensorFlow's from 1.
    settings = (*Bert.settings, Setting("pad_token_id", PAD_ID))
    facts = Architecture.facts

    @property
    def longest(self):
        return self.config.max_position_embeddings - _FIRST_PLACE

    def tokenizer(self, folder: Path) -> BytePairs:
        made = BytePairs.from_folder(
            folder, self.config.vocab_size, "Roberta", ("<s>",), ("</s>",)
        )
        check_padding(folder, made.vocabulary)
        return made

    def _places(self, table):
        return table[_FIRST_PLACE:]
