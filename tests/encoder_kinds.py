"""How a tiny checkpoint of each architecture is made."""
from __future__ import annotations

from encoder_contract import (
    BERT_SIZES,
    WIDTH,
    Kind,
    albert_pieces,
    gpt2_pairs,
    mpnet_word_pieces,
    roberta_pairs,
    word_pieces,
    xlnet_pieces,
)

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
