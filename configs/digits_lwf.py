"""Learning without forgetting on optdigits, from the MNIST backbone, with k labels a class.

./launch.sh configs/digits_pretrain.py  # once
./launch.sh configs/digits_lwf.py       # k = 5
./launch.sh configs/digits_lwf.py:20

Test accuracy: 98.2 % (95 % interval 97.3 to 99.0), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(k: int = 5) -> ConfigDict:
    """As digits_finetune, but for the method, which trains the new head alone at first."""
    config = like(__file__, "digits_finetune.py", k)
    old = "(backbone|pretrained_head)/.*"
    config.partition = ((old, "freeze"), (".*", "train"))
    config.unfreeze = ((0.2, ((old, "backbone"), (".*", "train"))),)
    config.method.name = "lwf"
    return config
