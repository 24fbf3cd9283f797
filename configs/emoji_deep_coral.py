"""Deep CORAL on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_deep_coral.py            # google to twitter
./launch.sh configs/emoji_deep_coral.py:twitter    # twitter to google

Target accuracy of the first command: 63.4 % (95 % interval 59.0 to 67.4), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "deep_coral"
    config.method.strength = 1.0  # no number is published
    return config
