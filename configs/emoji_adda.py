"""Adversarial discriminative adaptation (ADDA) on emoji, from Google's drawings to Twitter's or
back.

./launch.sh configs/emoji_source_only.py            # what the next one starts from
./launch.sh configs/emoji_adda.py                   # google to twitter
./launch.sh configs/emoji_source_only.py:twitter
./launch.sh configs/emoji_adda.py:twitter           # twitter to google

Target accuracy of the second command: 59.5 % (95 % interval 55.0 to 64.1), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like

STARTS = {"google": "runs/emoji_source_only", "twitter": "runs/emoji_source_only-twitter"}


def get_config(source: Literal["google", "twitter"] = "google") -> ConfigDict:
    """From emoji_source_only, with the authors' discriminator and optimizer."""
    config = like(__file__, "emoji_source_only.py", source)
    config.model.initial = STARTS[source]
    config.partition = (("backbone/.*", "freeze"), ("head/.*", "freeze"), (".*", "train"))
    config.method.name = "adda"
    config.method.width = 500
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2e-4
    config.optimizer.momentum = 0.5
    config.optimizer.schedule = "constant"
    config.optimizer.weight_decay = 0.0
    return config
