"""Entropy minimisation on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_entropy_minimization.py            # google to twitter
./launch.sh configs/emoji_entropy_minimization.py:twitter    # twitter to google

Target accuracy of the first command: 49.6 % (95 % interval 45.4 to 54.0), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "entropy_minimization"
    config.method.strength = 0.1  # no number is published
    return config
