"""The encoders of text and of speech against transformers, every tensor drawn at random."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from comparing import assert_same, randomised
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
    XLMRobertaConfig,
    XLMRobertaModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from jtl.models import bert, wav2vec2, whisper

Run = Callable[[torch.nn.Module, np.ndarray], torch.Tensor]
SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "attn_implementation": "eager",
}
ROBERTA = SMALL | {"max_position_embeddings": 22, "type_vocab_size": 1, "pad_token_id": 1}


def tokens(length: int, padding: int) -> np.ndarray:
    """Four texts, the last of one token."""
    made = np.random.default_rng(length).integers(5, 50, (4, length)).astype(np.int32)
    for row, kept in enumerate((length, length - 2, length // 2, 1)):
        made[row, kept:] = padding
    return made


def pooled(pooling: str, padding: int) -> Run:
    def run(module: torch.nn.Module, inputs: np.ndarray) -> torch.Tensor:
        ids = torch.tensor(inputs, dtype=torch.long)
        mask = (ids != padding).long()
        states = module(input_ids=ids, attention_mask=mask).last_hidden_state
        if pooling == "class":
            return states[:, 0]
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    return run


@pytest.mark.parametrize("pooling", ["mean", "class"])
@pytest.mark.parametrize("length", [12, 20])
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "distilbert"])
def test_encoders_of_text(kind: str, length: int, pooling: str) -> None:
    size = (50, 16, 2, 2, 32)
    later = {"positions": 22, "kinds": 1, "padding": 1, "first_position": 2}
    if kind == "bert":
        module = BertModel(BertConfig(max_position_embeddings=20, **SMALL), add_pooling_layer=False)
        shape, table = bert.Shape(*size, positions=20, pooling=pooling), bert.TABLE
    elif kind == "distilbert":
        small = {"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
        module = DistilBertModel(DistilBertConfig(max_position_embeddings=20, **small))
        shape = bert.Shape(*size, positions=20, kinds=0, pooling=pooling)
        table = bert.DISTILBERT_TABLE
    elif kind == "roberta":
        module = RobertaModel(RobertaConfig(**ROBERTA), add_pooling_layer=False)
        shape, table = bert.Shape(*size, **later, pooling=pooling), bert.TABLE
    else:
        module = XLMRobertaModel(XLMRobertaConfig(**ROBERTA), add_pooling_layer=False)
        shape, table = bert.Shape(*size, **later, pooling=pooling), bert.TABLE
    shape = shape._replace(epsilon=getattr(module.config, "layer_norm_eps", 1e-12))
    inputs = tokens(length, shape.padding)
    run = pooled(pooling, shape.padding)
    assert_same(randomised(module), bert.blocks(shape), table, inputs, run)


@pytest.mark.parametrize("frames", [20, 12])
def test_whispers_encoder(frames: int) -> None:
    config = WhisperConfig(
        num_mel_bins=8,
        d_model=16,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        max_source_positions=frames // 2,
    )
    shape = whisper.Shape(8, 16, 2, 2, 32, frames // 2)
    inputs = np.random.default_rng(0).normal(size=(2, frames, 8)).astype(np.float32)

    def run(module: torch.nn.Module, inputs: np.ndarray) -> torch.Tensor:
        return module(torch.tensor(inputs.transpose(0, 2, 1))).last_hidden_state.mean(1)

    module = randomised(WhisperEncoder(config))
    assert_same(module, whisper.blocks(shape), whisper.TABLE, inputs, run)


@pytest.mark.parametrize("samples", [400, 563])
@pytest.mark.parametrize("stable", [False, True])
def test_wav2vec2(stable: bool, samples: int) -> None:
    sizes = {"conv_dim": (8, 8, 8), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2)}
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_conv_pos_embeddings=6,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer" if stable else "group",
        do_stable_layer_norm=stable,
        conv_bias=stable,
        num_feat_extract_layers=3,
        **sizes,
    )
    shape = wav2vec2.Shape(
        *(16, 2, 2, 32),
        *sizes.values(),
        conv_bias=stable,
        normed=stable,
        stable=stable,
        place_kernel=6,
        place_groups=4,
    )
    inputs = np.random.default_rng(0).normal(size=(2, samples)).astype(np.float32)

    def run(module: torch.nn.Module, inputs: np.ndarray) -> torch.Tensor:
        return module(torch.tensor(inputs)).last_hidden_state.mean(1)

    module = randomised(Wav2Vec2Model(config))
    assert_same(module, wav2vec2.blocks(shape), wav2vec2.table(shape), inputs, run)
