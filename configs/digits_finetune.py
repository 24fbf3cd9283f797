"""Fine-tuning of the MNIST backbone on optdigits, with k labels a class.

./launch.sh configs/digits_pretrain.py      # once
./launch.sh configs/digits_finetune.py      # k = 5
./launch.sh configs/digits_finetune.py:20

Test accuracy of the first command: 97.9 % (95 % interval 96.9 to 98.8), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.defaults import defaults


def get_config(k: int = 5) -> ConfigDict:
    """All of it learns from k labels a class, the backbone at a tenth of the head's rate."""
    config = defaults()
    config.data.source = "embedded:optdigits"
    config.data.test_fraction = 0.5
    config.data.per_class = k
    config.model.backbone = "run:runs/digits_pretrain"
    config.model.bottleneck = 0
    config.partition = (("backbone/.*", "backbone"), ("head/.*", "train"))
    config.method.name = "supervised"
    config.optimizer.name = "adamw"
    config.optimizer.groups.backbone = 0.1
    config.optimizer.learning_rate = 1e-2
    config.optimizer.schedule = "cosine"
    config.optimizer.weight_decay = 1e-2
    config.steps = 300
    return config
