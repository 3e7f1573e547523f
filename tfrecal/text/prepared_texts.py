"""Texts as sentence-transformers hands them to a tokenizer."""
from __future__ import annotations

import tensorflow as tf

from tfrecal.text.sentence_folder import SentenceFolder


class Prepared(tf.Module):
    """A tokenizer whose texts get a prompt and become lower case before.

    Args:
        tokenizer: a tokenizer that runs in the graph.
        prompt: is put before each text.
        lower_case: whether texts become lower case.
    """

    in_graph = True

    def __init__(self, tokenizer, prompt: str, lower_case: bool):
        super().__init__()
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._lower_case = lower_case

    @property
    def facts(self) -> list:
        """All that the ids of a text depend on."""
        return [*self._tokenizer.facts, self._prompt, self._lower_case]

    def tokenize(self, texts: tf.Tensor, max_length: int) -> tf.RaggedTensor:
        """Turns strings `[n]` into int32 ids `[n, None]`."""
        texts = tf.strings.join([self._prompt, texts])
        if self._lower_case:
            # ASCII first, because some locales lower-case "I" in their own
            # way.
            texts = tf.strings.lower(tf.strings.lower(texts), encoding="utf-8")
        return self._tokenizer.tokenize(texts, max_length)


def prepared(tokenizer, sentences: SentenceFolder):
    """Returns a tokenizer of texts as the folder prepares them.

    White space around a text changes no token of the tokenizers that run in
    the graph.

    Raises:
        ValueError: texts of a tokenizer outside of the graph have a prompt,
            or become lower case.
    """
    if not (sentences.prompt or sentences.lower_case):
        if not tokenizer.in_graph:
            tokenizer.strips = sentences.strips
        return tokenizer
    if tokenizer.in_graph:
        return Prepared(tokenizer, sentences.prompt, sentences.lower_case)
    raise ValueError(
        "A checkpoint of byte-level BPE must have no default prompt and not "
        "lower-case its texts. Received: default prompt "
        f"{sentences.prompt!r}, do_lower_case={sentences.lower_case} in "
        f"{sentences.transformer}. Choose another checkpoint.")
