"""A joint adaptation network (JAN) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_jan.py            # google to twitter
./launch.sh configs/emoji_jan.py:twitter    # twitter to google

Target accuracy of the first command: 63.0 % (95 % interval 58.8 to 67.0), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "jan"
    config.method.strength = 1.0
    return config
