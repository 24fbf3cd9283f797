"""Conditional adversarial adaptation (CDAN) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_cdan.py            # google to twitter
./launch.sh configs/emoji_cdan.py:twitter    # twitter to google

Target accuracy of the first command: 55.5 % (95 % interval 50.8 to 59.9), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "cdan"
    config.method.strength = 1.0
    return config
