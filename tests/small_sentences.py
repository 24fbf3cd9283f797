"""A small encoder of sentences as a checkpoint, its tokenizer, and reviews to try it on."""

import csv
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from jtl.types import Tokenization

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "a", "very", "film", "book")
"""Their numbers are their places."""
WIDTH, HIDDEN, LAYERS = 8, 12, 2
CONFIG = {
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": HIDDEN,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}


def tokenizer() -> Tokenizer:
    """Words between [CLS] and [SEP]; its file asks for a padding and a truncation of its own."""
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_padding(length=128)
    made.enable_truncation(3)
    return made


def tokenization(longest: int = 8) -> Tokenization:
    """What a backbone with this tokenizer asks of texts."""
    return Tokenization(tokenizer().to_str(), longest, padding=0)


def tensors() -> dict[str, np.ndarray]:
    """By the names of transformers."""
    draw, shapes = np.random.default_rng(0), {}
    norms = ["embeddings"]
    for kind, rows in (("word", len(WORDS)), ("position", 16), ("token_type", 2)):
        shapes[f"embeddings.{kind}_embeddings.weight"] = (rows, WIDTH)
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        norms += [f"{layer}.attention.output", f"{layer}.output"]
        square = ("self.query", "self.key", "self.value", "output.dense")
        dense = {f"{layer}.attention.{name}": (WIDTH, WIDTH) for name in square}
        dense[f"{layer}.intermediate.dense"] = (HIDDEN, WIDTH)
        dense[f"{layer}.output.dense"] = (WIDTH, HIDDEN)
        for name, shape in dense.items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    drawn = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name in norms:
        drawn[f"{name}.LayerNorm.weight"] = np.ones(WIDTH, np.float32)
        drawn[f"{name}.LayerNorm.bias"] = np.zeros(WIDTH, np.float32)
    return drawn


def checkpoint(folder: Path) -> Path:
    """A folder as the hub has it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(tokenizer().to_str())
    save_file(tensors(), folder / "model.safetensors")
    return folder


def reviews(file: Path, *, about: str, count: int = 60) -> Path:
    """A CSV file of praise and blame of films or books; the longer ones are about films."""
    draw = np.random.default_rng(len(about))
    with file.open("w", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(("review", "said"))
        for index in range(count):
            word, label = (("good", "praise"), ("bad", "blame"))[index % 2]
            extra = ["very"] * int(draw.integers(1, 12 if about == "film" else 3))
            # A word that is in no dictionary, so that no two reviews are one.
            rows.writerow((" ".join([word, word, *extra, about, f"n{index}"]), label))
    return file
