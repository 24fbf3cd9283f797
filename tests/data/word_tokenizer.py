"""A tokenizer of whole words, for tests."""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from jtl.types import Tokenization

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "a", "very", "film")
"""Their numbers are their places."""


def tokenization(longest: int = 8) -> Tokenization:
    """Words between [CLS] and [SEP]; its file asks for a padding and a truncation of its own."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(3)
    return Tokenization(tokenizer.to_str(), longest, padding=0)
