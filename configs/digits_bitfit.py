"""BitFit (arXiv 2106.10199) on optdigits, from the MNIST backbone, with k labels a class.

./launch.sh configs/digits_pretrain.py  # once
./launch.sh configs/digits_bitfit.py    # k = 5
./launch.sh configs/digits_bitfit.py:20

Test accuracy: 97.9 % (95 % interval 97.0 to 98.8), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(k: int = 5) -> ConfigDict:
    """As digits_finetune, but of the backbone only its biases learn, at the head's rate."""
    config = like(__file__, "digits_finetune.py", k)
    config.partition = (("backbone/.*/bias", "train"), ("head/.*", "train"), (".*", "freeze"))
    del config.optimizer.groups.backbone
    return config
