"""Maximum classifier discrepancy (MCD) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_mcd.py            # google to twitter
./launch.sh configs/emoji_mcd.py:twitter    # twitter to google

Target accuracy of the first command: 50.6 % (95 % interval 46.6 to 55.3), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "mcd"
    config.method.repeats = 4
    return config
