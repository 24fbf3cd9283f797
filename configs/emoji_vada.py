"""Virtual adversarial adaptation (VADA) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_vada.py            # google to twitter
./launch.sh configs/emoji_vada.py:twitter    # twitter to google

Target accuracy of the first command: 55.7 % (95 % interval 51.5 to 60.5), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "vada"
    config.method.strength = 0.01
    config.method.source_smoothness = 1.0
    config.method.target_smoothness = 0.01
    config.method.epsilon = 3.5  # in units of the backbone's features
    return config
