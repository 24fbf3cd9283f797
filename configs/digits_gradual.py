"""Gradual unfreezing (arXiv 1801.06146) on optdigits, from the MNIST backbone, k labels a class.

./launch.sh configs/digits_pretrain.py  # once
./launch.sh configs/digits_gradual.py   # k = 5
./launch.sh configs/digits_gradual.py:20

Test accuracy: 98.1 % (95 % interval 97.2 to 98.9), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(k: int = 5) -> ConfigDict:
    """As digits_finetune, but that the blocks begin to learn one after another, the last first."""
    config = like(__file__, "digits_finetune.py", k)
    head = ("head/.*", "train")
    dense = ("backbone/dense/.*", "dense")
    stage2 = ("backbone/stage2/.*", "stage2")
    stage1 = ("backbone/stage1/.*", "stage1")
    rest = (".*", "freeze")
    config.partition = (head, rest)
    config.unfreeze = (
        (0.25, (head, dense, rest)),
        (0.5, (head, dense, stage2, rest)),
        (0.75, (head, dense, stage2, stage1)),
    )
    # A group each, so that a newcomer leaves the optimizer state of the others alone.
    config.optimizer.groups = {"dense": 0.1, "stage2": 0.1, "stage1": 0.1}
    return config
