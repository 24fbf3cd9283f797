"""WiSE-FT (arXiv 2109.01903) on optdigits, from the MNIST classifier, with k labels a class.

./launch.sh configs/digits_pretrain.py  # once
./launch.sh configs/digits_wise_ft.py   # k = 5
./launch.sh configs/digits_wise_ft.py:20

Test accuracy: 98.7 % (95 % interval 97.8 to 99.3), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(k: int = 5) -> ConfigDict:
    """As digits_finetune, but that MNIST's head learns on, and what lies on the way is tested."""
    config = like(__file__, "digits_finetune.py", k)
    config.model.initial = "runs/digits_pretrain"
    config.interpolate = tuple(tenth / 10 for tenth in range(11))
    return config
