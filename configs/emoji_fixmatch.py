"""FixMatch on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_fixmatch.py            # google to twitter
./launch.sh configs/emoji_fixmatch.py:twitter    # twitter to google

Target accuracy of the first command: 48.3 % (95 % interval 43.9 to 52.9), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths.

    The backbone is run once, so a strong view is its features with half of them masked.
    """
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "fixmatch"
    config.method.strength = 1.0
    config.method.threshold = 0.95
    config.method.masked = 0.5  # ours: the published views are images
    return config
