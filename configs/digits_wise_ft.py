"""WiSE-FT (arXiv 2109.01903) on optdigits, from the MNIST classifier, with k labels a class.

./launch.sh configs/digits_pretrain.py  # once
./launch.sh configs/digits_wise_ft.py   # k = 5
./launch.sh configs/digits_wise_ft.py:20

Test accuracy: not run yet.
"""

from ml_collections import ConfigDict

from jtl.configuration import defaults


def get_config(k: int = 5) -> ConfigDict:
    """As digits_finetune, but that MNIST's head learns on, and what lies on the way is tested."""
    config = defaults()
    config.data.source = "embedded:optdigits"
    config.data.test_fraction = 0.5
    config.data.per_class = k
    config.model.backbone = "run:runs/digits_pretrain"
    config.model.bottleneck = 0
    config.model.initial = "runs/digits_pretrain"
    config.interpolate = tuple(tenth / 10 for tenth in range(11))
    config.partition = (("backbone/.*", "backbone"), ("head/.*", "train"))
    config.method.name = "supervised"
    config.optimizer.name = "adamw"
    config.optimizer.groups.backbone = 0.1
    config.optimizer.learning_rate = 1e-2
    config.optimizer.schedule = "cosine"
    config.optimizer.weight_decay = 1e-2
    config.steps = 300
    return config
