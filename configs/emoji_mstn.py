"""Moving semantic transfer network (MSTN) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_mstn.py            # google to twitter
./launch.sh configs/emoji_mstn.py:twitter    # twitter to google

Target accuracy of the first command: 58.6 % (95 % interval 54.4 to 63.0), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "mstn"
    config.method.strength = 0.2
    config.method.semantic = 1.0
    config.method.decay = 0.7
    return config
