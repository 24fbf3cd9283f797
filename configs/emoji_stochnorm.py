"""StochNorm (Kou et al., NeurIPS 2020): partial fine-tuning on emoji, half the channels by batch.

./launch.sh configs/emoji_stochnorm.py          # Google's drawings
./launch.sh configs/emoji_stochnorm.py:twitter  # Twitter's

Test accuracy: 79.8 % (95 % interval 76.3 to 83.6), one run on one cpu.
"""

from typing import Literal

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(house: Literal["google", "twitter"] = "google") -> ConfigDict:
    """As emoji_finetune, but for the batch norms of what learns."""
    config = like(__file__, "emoji_finetune.py", house)
    config.batch_norm = "stochastic"
    config.batch_norm_share = 0.5
    return config
