"""Texts as the tokens that a backbone reads."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from jtl.data.examples import Examples
from jtl.data.preprocess import refused
from jtl.devices.inference import LENGTHS
from jtl.errors import UserError
from jtl.types import Tokenization, Wanted


def of_texts(name: str, wanted: Wanted | None) -> Tokenization:
    """What a backbone asks of texts.

    Args:
      name: of a set that holds texts.
      wanted: by the backbone.

    Raises:
      UserError: it takes no texts.
    """
    if not isinstance(wanted, Tokenization):
        raise refused(name, "texts", wanted)
    return wanted


def tokens(
    texts: Sequence[str], wanted: Tokenization
) -> tuple[Int[np.ndarray, "examples tokens"], tuple[str, ...]]:
    """Token numbers, padded to one length, and what was done to how many texts.

    The checkpoint's tokenizer decides all but truncation and padding, which are set here whatever
    its file says.

    Args:
      texts: at least one.
      wanted: by the backbone.

    Raises:
      UserError: nothing of a text fits beside the tokens that frame it.
    """
    from tokenizers import Tokenizer  # takes a moment, and only texts need it

    tokenizer = Tokenizer.from_str(wanted.tokenizer)
    tokenizer.no_padding()
    frame = tokenizer.num_special_tokens_to_add(is_pair=False)
    if wanted.longest <= frame:
        raise UserError(
            f"model.max_tokens is {wanted.longest}, and {frame} tokens frame each text; set more"
        )
    tokenizer.enable_truncation(wanted.longest)
    encoded = tokenizer.encode_batch(list(texts))
    longest = max(len(each.ids) for each in encoded)
    length = min(next((n for n in LENGTHS if n >= longest), longest), wanted.longest)
    rows = np.full((len(encoded), length), wanted.padding, np.int32)
    for row, each in zip(rows, encoded, strict=True):
        row[: len(each.ids)] = each.ids
    cut = sum(bool(each.overflowing) for each in encoded)
    notes = (f"{cut} of {len(texts)} texts were cut after {wanted.longest} tokens",) if cut else ()
    return rows, notes


def of_one_length(source: Examples, target: Examples) -> tuple[Examples, Examples]:
    """Two sets, the shorter one's texts padded to the other's length: they meet in one batch."""
    if source.padding is None or target.padding is None:
        return source, target
    length = max(each.array().shape[1] for each in (source, target))
    return _padded(source, length), _padded(target, length)


def _padded(examples: Examples, length: int) -> Examples:
    rows = examples.array()
    more = np.full((len(rows), length - rows.shape[1]), examples.padding, np.int32)
    return replace(examples, inputs=np.concatenate([rows, more], axis=1))
