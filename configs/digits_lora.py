"""LoRA (arXiv 2106.09685) on optdigits, from the MNIST backbone, with k labels a class.

./launch.sh configs/digits_pretrain.py  # once
./launch.sh configs/digits_lora.py      # k = 5
./launch.sh configs/digits_lora.py:20

Test accuracy: 96.9 % (95 % interval 95.7 to 98.0), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(k: int = 5) -> ConfigDict:
    """As digits_finetune, but of the backbone only leaves of low rank learn, at the head's rate."""
    config = like(__file__, "digits_finetune.py", k)
    config.model.lora.rank = 4
    config.model.lora.alpha = 4.0
    config.partition = ((".*_lora_[ab]", "train"), ("head/.*", "train"), (".*", "freeze"))
    del config.optimizer.groups.backbone
    return config
