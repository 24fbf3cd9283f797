"""LP-FT (arXiv 2202.10054) on optdigits, from the MNIST backbone, with k labels a class.

./launch.sh configs/digits_pretrain.py  # once
./launch.sh configs/digits_lp_ft.py     # k = 5
./launch.sh configs/digits_lp_ft.py:20

Test accuracy: 98.1 % (95 % interval 97.1 to 98.9), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(k: int = 5) -> ConfigDict:
    """The head alone learns for half of the training; then all of it, as in digits_finetune."""
    config = like(__file__, "digits_finetune.py", k)
    config.unfreeze = ((0.5, config.partition),)
    config.partition = (("backbone/.*", "freeze"), ("head/.*", "train"))
    return config
