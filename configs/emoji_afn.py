"""Adaptive feature norm (AFN) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_afn.py            # google to twitter
./launch.sh configs/emoji_afn.py:twitter    # twitter to google

Target accuracy of the first command: 55.0 % (95 % interval 50.6 to 59.5), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths and batch norm.

    With layer norm the features grow without end, until no learning rate fits them.
    """
    config = like(__file__, "emoji_source_only.py", source)
    config.model.norm = "batch"
    config.method.name = "afn"
    config.method.strength = 0.05
    config.method.step = 1.0
    return config
