"""Batch spectral penalisation (BSP) of DANN on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_bsp_dann.py            # google to twitter
./launch.sh configs/emoji_bsp_dann.py:twitter    # twitter to google

Target accuracy of the first command: 64.7 % (95 % interval 60.5 to 69.1), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_bsp, but for the method that is penalised."""
    config = like(__file__, "emoji_bsp.py", source)
    config.method.base = "dann"
    return config
