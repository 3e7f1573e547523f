"""The same encoder in other libraries, for `encoding.py`.

Each maker gives functions of a list of texts and a batch size, with vectors
`[n, dim]` float32 of means over tokens, not normalised, and raises
ImportError where its library is missing. All sort texts by length, as
sentence-transformers does, and pad each batch to its longest text.
"""
from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

NAMES = ["input_ids", "attention_mask"]
# Forks and threads of tokenizers: a warning only, but a long one.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def sentence_transformers(folder, max_length: int, threads: int) -> dict:
    """`SentenceTransformer.encode`, fp32 and bfloat16 weights."""
    import torch

    torch.set_num_threads(threads)
    return {"sentence-transformers fp32": _encode(folder, max_length),
            "sentence-transformers bf16": _encode(
                folder, max_length, torch.bfloat16)}


def sentence_model(folder, max_length: int):
    """The checkpoint as a `SentenceTransformer` with mean pooling."""
    from sentence_transformers import SentenceTransformer, models

    transformer = models.Transformer(str(folder), max_seq_length=max_length)
    pooling = models.Pooling(transformer.get_word_embedding_dimension())
    return SentenceTransformer(modules=[transformer, pooling], device="cpu")


def _encode(folder, max_length, dtype=None):
    model = sentence_model(folder, max_length)
    if dtype is not None:
        model.to(dtype)

    def encode(texts, batch_size):
        vectors = model.encode(
            texts, batch_size=batch_size, show_progress_bar=False,
            convert_to_tensor=True)  # NumPy has no bfloat16
        return vectors.float().numpy()

    return encode


def export_onnx(folder, path: Path) -> Path:
    """Writes the checkpoint with mean pooling as ONNX, by way of torch."""
    import onnx  # noqa: F401  (torch's exporter needs it)
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.base = AutoModel.from_pretrained(
                folder, add_pooling_layer=False)

        def forward(self, input_ids, attention_mask):
            hidden = self.base(input_ids=input_ids,
                               attention_mask=attention_mask)[0]
            mask = attention_mask[..., None].to(hidden.dtype)
            return (hidden * mask).sum(1) / mask.sum(1)

    example = torch.ones(2, 8, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Pooled().eval(), (example, example), str(path),
            input_names=NAMES, output_names=["vectors"], opset_version=17,
            dynamic_axes={name: {0: "rows", 1: "width"} for name in NAMES},
            dynamo=False)
    return path


def onnx_runtime(folder, max_length: int, threads: int, onnx: Path) -> dict:
    """ONNX Runtime, fp32 and int8 (dynamic, weights signed)."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = onnx.with_suffix(".int8.onnx")
    quantize_dynamic(onnx, small, weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    sessions = {name: onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"])
        for name, path in (("ONNX Runtime fp32", onnx),
                           ("ONNX Runtime int8", small))}
    return {name: _batched(
        folder, max_length,
        lambda batch, session=session: session.run(None, batch)[0])
        for name, session in sessions.items()}


def openvino(folder, max_length: int, threads: int, onnx: Path) -> dict:
    """OpenVINO, all cores at one batch, fp32 and with the bf16 hint."""
    import openvino

    core = openvino.Core()
    model = core.read_model(onnx)
    return {f"OpenVINO {short}": _batched(
        folder, max_length,
        lambda batch, run=core.compile_model(model, "CPU", {
            "INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads}):
        run([batch[name] for name in NAMES])[0])
        for short, hint in (("fp32", "f32"), ("bf16", "bf16"))}


def _batched(folder, max_length, run):
    """Texts by length, in batches, each padded to its longest."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(texts, batch_size):
        ids = tokenizer(texts, truncation=True, max_length=max_length,
                        return_attention_mask=False,
                        return_token_type_ids=False)["input_ids"]
        lengths = np.array([len(row) for row in ids])
        order = np.argsort(-lengths, kind="stable")
        vectors = None
        for start in range(0, len(order), batch_size):
            rows = order[start:start + batch_size]
            mask = np.arange(lengths[rows[0]]) < lengths[rows, np.newaxis]
            padded = np.zeros(mask.shape, np.int64)
            padded[mask] = np.concatenate([ids[row] for row in rows])
            found = run(dict(zip(NAMES, (padded, mask.astype(np.int64)))))
            if vectors is None:
                vectors = np.empty([len(order), found.shape[1]], np.float32)
            vectors[rows] = found
        return vectors

    return encode
