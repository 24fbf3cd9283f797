"""BitFit (arXiv 2106.10199) on optdigits, from the MNIST backbone, with k labels a class.

./launch.sh configs/digits_pretrain.py  # once
./launch.sh configs/digits_bitfit.py    # k = 5
./launch.sh configs/digits_bitfit.py:20

Test accuracy: not run yet.
"""

from ml_collections import ConfigDict

from jtl.configuration import defaults


def get_config(k: int = 5) -> ConfigDict:
    """As digits_finetune, but of the backbone only its biases learn, at the head's rate."""
    config = defaults()
    config.data.source = "embedded:optdigits"
    config.data.test_fraction = 0.5
    config.data.per_class = k
    config.model.backbone = "run:runs/digits_pretrain"
    config.model.bottleneck = 0
    config.partition = (("backbone/.*/bias", "train"), ("head/.*", "train"), (".*", "freeze"))
    config.method.name = "supervised"
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-2
    config.optimizer.schedule = "cosine"
    config.optimizer.weight_decay = 1e-2
    config.steps = 300
    return config
