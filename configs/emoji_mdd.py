"""Margin disparity discrepancy (MDD) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_mdd.py            # google to twitter
./launch.sh configs/emoji_mdd.py:twitter    # twitter to google

Target accuracy of the first command: 49.4 % (95 % interval 44.7 to 53.6), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "mdd"
    config.method.strength = 0.1
    config.method.margin = 4.0
    return config
