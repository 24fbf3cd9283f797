"""Co-Tuning on optdigits, from the MNIST backbone, with k labels a class.

./launch.sh configs/digits_pretrain.py   # once
./launch.sh configs/digits_co_tuning.py  # k = 5
./launch.sh configs/digits_co_tuning.py:20

Test accuracy: 97.8 % (95 % interval 96.8 to 98.7), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(k: int = 5) -> ConfigDict:
    """As digits_finetune, but for the method. The old head learns on at the backbone's rate."""
    config = like(__file__, "digits_finetune.py", k)
    config.partition = (("(backbone|pretrained_head)/.*", "backbone"), (".*", "train"))
    config.method.name = "co_tuning"
    return config
