"""Joint optimal transport (DeepJDOT) on emoji, from Google's drawings to Twitter's or back.

./launch.sh configs/emoji_deep_jdot.py            # google to twitter
./launch.sh configs/emoji_deep_jdot.py:twitter    # twitter to google

Target accuracy of the first command: 60.7 % (95 % interval 56.3 to 65.1), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_source_only, but for the method, with its authors' strengths."""
    config = like(__file__, "emoji_source_only.py", source)
    config.method.name = "deep_jdot"
    config.method.alpha = 0.001
    config.method.lambda_t = 0.0001
    config.method.epsilon = 0.01  # ours: the published plan is exact
    return config
