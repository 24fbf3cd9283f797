"""A deep adaptation network (DAN) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_dan.py            # google to twitter
./launch.sh configs/emoji_dan.py:twitter    # twitter to google

Target accuracy of the first command: 63.4 % (95 % interval 59.2 to 67.6), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "dan"
    config.method.strength = 1.0
    return config
