"""Batch nuclear-norm maximisation (BNM) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_bnm.py            # google to twitter
./launch.sh configs/emoji_bnm.py:twitter    # twitter to google

Target accuracy of the first command: 56.3 % (95 % interval 51.9 to 60.5), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "bnm"
    config.method.strength = 1.0
    return config
