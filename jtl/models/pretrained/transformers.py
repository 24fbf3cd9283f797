"""Checkpoints of transformers and sentence-transformers: from their config to a family's shape."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jtl.errors import UserError, nearest
from jtl.models import bert, wav2vec2, whisper
from jtl.models.pretrained.files import CONFIG, Files
from jtl.models.pretrained.timm import Described
from jtl.models.transformer import ACTIVATIONS
from jtl.models.weights import Rule
from jtl.types import Sound, Tokenization

Config = Mapping[str, Any]


def described(files: Files, *, pooling: str = "") -> Described:
    """What a checkpoint holds.

    Args:
      files: of it.
      pooling: of the tokens, where it is not to be the checkpoint's own.

    Raises:
      UserError: the kind of model is unknown, or the config asks for what jtl does not have.
    """
    config = files.json(CONFIG)
    kind = config.get("model_type", "")
    if kind not in _KINDS:
        raise UserError(
            f"model.backbone: {files.name} is a {kind!r}, which jtl does not have; "
            f"{nearest(kind, _KINDS)} (image models: those of timm/...)"
        )
    return _KINDS[kind](files, config, pooling)


def _bert(files: Files, config: Config, pooling: str) -> Described:
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(f"model.backbone: {files.name} has no absolute positions; name another")
    later = config["model_type"] in ("roberta", "xlm-roberta")
    return _encoder(
        *(files, config, pooling, bert.TABLE),
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        kinds=config["type_vocab_size"],
        first_position=_padding(config) + 1 if later else 0,
        epsilon=config["layer_norm_eps"],
        activation=_activation(files, config["hidden_act"]),
    )


def _distilbert(files: Files, config: Config, pooling: str) -> Described:
    return _encoder(
        *(files, config, pooling, bert.DISTILBERT_TABLE),
        vocabulary=config["vocab_size"],
        width=config["dim"],
        layers=config["n_layers"],
        heads=config["n_heads"],
        hidden=config["hidden_dim"],
        kinds=0,
        activation=_activation(files, config["activation"]),
    )


def _encoder(
    files: Files, config: Config, pooling: str, table: tuple[Rule, ...], **settings: Any
) -> Described:
    """An encoder of texts: the settings are those that configs call by other names."""
    sentences = _sentences(files, pooling)
    shape = bert.Shape(
        **settings,
        positions=config["max_position_embeddings"],
        padding=_padding(config),
        pooling=pooling or sentences.pooling,
        unit=sentences.unit,
    )
    tokens = _tokens(files, shape, sentences.longest)
    return Described("bert", shape, tokens, table, pooling != "attention")


def _padding(config: Config) -> int:
    return config.get("pad_token_id") or 0


def _whisper(files: Files, config: Config, pooling: str) -> Described:
    _only_mean(files, pooling)
    shape = whisper.Shape(
        bands=config["num_mel_bins"],
        width=config["d_model"],
        layers=config["encoder_layers"],
        heads=config["encoder_attention_heads"],
        hidden=config["encoder_ffn_dim"],
        positions=config["max_source_positions"],
    )
    return Described("whisper", shape, Sound((0, shape.bands), 2 * shape.positions), whisper.TABLE)


def _wav2vec2(files: Files, config: Config, pooling: str) -> Described:
    _only_mean(files, pooling)
    shape = wav2vec2.Shape(
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        widths=tuple(config["conv_dim"]),
        kernels=tuple(config["conv_kernel"]),
        strides=tuple(config["conv_stride"]),
        conv_bias=config["conv_bias"],
        normed=config["feat_extract_norm"] == "layer",
        stable=config["do_stable_layer_norm"],
        place_kernel=config["num_conv_pos_embeddings"],
        place_groups=config["num_conv_pos_embedding_groups"],
    )
    return Described("wav2vec2", shape, Sound((0,)), wav2vec2.table(shape))


_KINDS: Mapping[str, Callable[[Files, Config, str], Described]] = {
    "bert": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
    "distilbert": _distilbert,
    "whisper": _whisper,
    "wav2vec2": _wav2vec2,
}
"""By ``model_type``."""


def _only_mean(files: Files, pooling: str) -> None:
    if pooling not in ("", "mean"):
        raise UserError(f"model.pooling: {files.name} has the mean of its tokens and no other")


def _activation(files: Files, name: str) -> str:
    name = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}.get(name, name)
    if name not in ACTIVATIONS:
        raise UserError(
            f"model.backbone: {files.name} has the activation {name!r}; jtl has "
            f"{', '.join(sorted(ACTIVATIONS))}"
        )
    return name


class _Sentences(NamedTuple):
    """What the files of sentence-transformers say.

    Attributes:
      pooling: of the tokens; without such files their mean.
      longest: the most tokens of a text; 0 is not said.
      unit: whether features are brought to length 1.
    """

    pooling: str
    longest: int
    unit: bool


_MEAN = "pooling_mode_mean_tokens"


def _sentences(files: Files, pooling: str) -> _Sentences:
    pool = files.json_if_any("1_Pooling/config.json")
    longest = files.json_if_any("sentence_bert_config.json").get("max_seq_length") or 0
    kinds = [
        str(module.get("type", "")).rpartition(".")[2]
        for module in files.json_if_any("modules.json")
    ]
    if others := sorted({*kinds} - {"Transformer", "Pooling", "Normalize"}):
        raise UserError(
            f"model.backbone: {files.name} has a module {others[0]}, which jtl does not have; "
            "export its encoder alone"
        )
    unit = "Normalize" in kinds
    modes = [name for name, on in pool.items() if name.startswith("pooling_mode_") and on is True]
    own = "class" if modes == ["pooling_mode_cls_token"] else "mean"
    if pool and modes not in (["pooling_mode_cls_token"], [_MEAN]) and not pooling:
        raise UserError(
            f"model.backbone: {files.name} pools its tokens in a way that jtl does not have; set "
            "model.pooling to mean or class"
        )
    return _Sentences(own, longest, unit)


def _tokens(files: Files, shape: bert.Shape, longest: int) -> Tokenization:
    content = files.path("tokenizer.json").read_text(encoding="utf-8")
    return Tokenization(content, min(longest or shape.longest, shape.longest), shape.padding)
