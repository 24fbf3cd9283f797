"""Bi-Tuning on optdigits, from the MNIST backbone, with k labels a class.

./launch.sh configs/digits_pretrain.py   # once
./launch.sh configs/digits_bi_tuning.py  # k = 5
./launch.sh configs/digits_bi_tuning.py:20

Test accuracy: 97.9 % (95 % interval 96.9 to 98.8), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(k: int = 5) -> ConfigDict:
    """As digits_finetune, but for the method. Its projector learns at the backbone's rate."""
    config = like(__file__, "digits_finetune.py", k)
    config.partition = (("(backbone|projector)/.*", "backbone"), (".*", "train"))
    config.method.name = "bi_tuning"
    return config
