"""Every architecture of `TextEncoder` passes the contract."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from encoder_contract import MOST, EncoderContract, encoder_of, write
from encoder_kinds import KINDS
from exports import Exported

from tfrecal.export.manifest import read_manifest
from tfrecal.text.architectures import ARCHITECTURES

pytestmark = pytest.mark.large  # three minutes


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
