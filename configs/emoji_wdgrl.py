"""Wasserstein distance by a critic (WDGRL) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_wdgrl.py            # google to twitter
./launch.sh configs/emoji_wdgrl.py:twitter    # twitter to google

Target accuracy of the first command: 64.9 % (95 % interval 60.3 to 68.9), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "wdgrl"
    config.method.strength = 0.1
    config.method.penalty = 10.0
    config.method.repeats = 5
    return config
