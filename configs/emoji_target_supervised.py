"""The oracle on emoji: what labels of the target's training examples would give.

./launch.sh configs/emoji_target_supervised.py            # tested on twitter
./launch.sh configs/emoji_target_supervised.py:twitter    # tested on google

Target accuracy of the first command: 71.6 % (95 % interval 67.6 to 75.4), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but trained on the other domain."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "target_supervised"
    return config
