"""Central moment discrepancy (CMD) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_cmd.py            # google to twitter
./launch.sh configs/emoji_cmd.py:twitter    # twitter to google

Target accuracy of the first command: 51.3 % (95 % interval 47.1 to 55.9), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "cmd"
    config.method.strength = 1.0
    config.method.moments = 5
    return config
