"""L2-SP on optdigits, from the MNIST backbone, with k labels a class.

./launch.sh configs/digits_pretrain.py  # once
./launch.sh configs/digits_l2_sp.py     # k = 5
./launch.sh configs/digits_l2_sp.py:20

Test accuracy: 98.3 % (95 % interval 97.4 to 99.1), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(k: int = 5) -> ConfigDict:
    """As digits_finetune, but for the method, whose penalty takes the place of weight decay."""
    config = like(__file__, "digits_finetune.py", k)
    config.method.name = "l2_sp"
    config.optimizer.weight_decay = 0.0
    return config
