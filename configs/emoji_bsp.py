"""Batch spectral penalisation (BSP) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_bsp.py            # google to twitter
./launch.sh configs/emoji_bsp.py:twitter    # twitter to google

Target accuracy of the first command: 61.1 % (95 % interval 56.9 to 65.3), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "bsp"
    config.method.base = "cdan"
    config.method.strength = 1.0
    config.method.spectral = 1e-4
    return config
