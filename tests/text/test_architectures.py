"""Every architecture of `TextEncoder` passes the contract."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from encoder_contract import (
    BERT_SIZES,
    MOST,
    WIDTH,
    EncoderContract,
    Kind,
    albert_pieces,
    encoder_of,
    gpt2_pairs,
    mpnet_word_pieces,
    roberta_pairs,
    word_pieces,
    write,
    xlnet_pieces,
)
from test_export import Exported

from tfrecal.export.manifest import read_manifest
from tfrecal.text.architectures import ARCHITECTURES

pytestmark = pytest.mark.large  # three minutes

KINDS = {
    "bert": Kind(BERT_SIZES, "TFBertModel", word_pieces, "BertTokenizer"),
    "electra": Kind(
        {**BERT_SIZES, "embedding_size": 16}, "TFElectraModel", word_pieces,
        "ElectraTokenizer"),
    "distilbert": Kind(
        dict(dim=WIDTH, n_layers=2, n_heads=2, hidden_dim=48,
             max_position_embeddings=40),
        "TFDistilBertModel", word_pieces, "DistilBertTokenizer"),
    "mpnet": Kind(
        {**BERT_SIZES, "relative_attention_num_buckets": 8}, "TFMPNetModel",
        mpnet_word_pieces, "MPNetTokenizer",
        fixed=("relative_attention_bias",)),
    "albert": Kind(
        {**BERT_SIZES, "num_hidden_layers": 3, "num_hidden_groups": 2,
         "inner_group_num": 1, "embedding_size": 16, "hidden_act": "gelu_new"},
        "TFAlbertModel", albert_pieces, "AlbertTokenizer"),
    "roberta": Kind(
        BERT_SIZES, "TFRobertaModel", roberta_pairs, "RobertaTokenizerFast",
        in_graph=False),
    "gpt2": Kind(
        dict(n_embd=WIDTH, n_layer=2, n_head=2, n_positions=40),
        "TFGPT2Model", gpt2_pairs, "GPT2TokenizerFast", pooling="last",
        top=("ln_f",), in_graph=False),
    "xlnet": Kind(
        dict(d_model=WIDTH, n_layer=2, n_head=2, d_inner=48),
        "TFXLNetModel", xlnet_pieces, "XLNetTokenizer", pooling="last",
        fixed=("mask_emb",)),
}


class TestBert(EncoderContract):
    kind = KINDS["bert"]


class TestElectra(EncoderContract):
    kind = KINDS["electra"]


class TestDistilBert(EncoderContract):
    kind = KINDS["distilbert"]


class TestMPNet(EncoderContract):
    kind = KINDS["mpnet"]


class TestAlbert(EncoderContract):
    kind = KINDS["albert"]


class TestRoberta(EncoderContract):
    kind = KINDS["roberta"]


class TestGPT2(EncoderContract):
    kind = KINDS["gpt2"]


class TestXLNet(EncoderContract):
    kind = KINDS["xlnet"]


def test_none_is_left_out():
    assert set(KINDS) == set(ARCHITECTURES)


class TestExportOfClientTokens:
    @pytest.fixture(scope="class")
    def exported(self, shop, tmp_path_factory):
        made = write(tmp_path_factory.mktemp("roberta"), KINDS["roberta"])
        return Exported(shop, encoder_of(made), made.folder)

    def test_manifest_says_so(self, exported):
        manifest = read_manifest(exported.path)
        assert manifest["tokenizer"] == "client"
        assert manifest["tokenizer_file"] == "tokenizer.json"
        assert manifest["max_length"] == MOST
        assert "stock" in manifest["servers"]

    def test_token_ids_are_read(self, exported):
        query, candidate = (
            exported.model.query_tower, exported.model.candidate_tower)
        texts = tf.constant(["the blue chair", "a"])
        ids = candidate.encoder.tokenize(texts).to_tensor(-1).numpy()
        vector = query.standardise(candidate.encoder(texts))
        expected = tf.split(query.search(vector), 2, axis=1)[1]
        found = exported.by_session("embed_queries", {"token_ids": ids})
        np.testing.assert_allclose(found["embedding"], expected, atol=1e-5)
        candidates = exported.blocks([])[1]["retrieval"].numpy()[1:]
        best = np.argmax(expected @ candidates.T, axis=1)
        found = exported.by_session("search", {"token_ids": ids})
        np.testing.assert_array_equal(
            found["item_ids"][:, 0].astype(str),
            exported.pool.item_ids[best].astype(str))
        found = exported.by_session("embed_candidates", {"token_ids": ids})
        np.testing.assert_allclose(
            found["embedding"], vector @ candidate.text_kernel[:, 4:],
            atol=1e-5)

    def test_ids_may_be_left_out(self, exported):
        user = np.array(["nobody", "else"], object)
        recommended = exported.by_session("recommend", {"user_id": user})
        found = exported.by_session("search", {
            "user_id": user, "token_ids": np.full([2, 3], -1, np.int32)})
        np.testing.assert_array_equal(
            found["item_ids"], recommended["item_ids"])
        ids = np.array([exported.pool.item_ids[3], "nothing"], object)
        found = exported.by_session("embed_candidates", {"item_id": ids})
        candidates = exported.blocks([])[1]["retrieval"].numpy()
        np.testing.assert_allclose(
            found["embedding"][0], candidates[4], atol=1e-5)
        assert not np.any(found["embedding"][1])
