"""Domain-adversarial adaptation of digits, from MNIST to optdigits, from pixels.

./launch.sh configs/digits_dann.py

Target accuracy of the first command: 90.3 % (95 % interval 88.4 to 92.1), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.defaults import defaults


def get_config() -> ConfigDict:
    """Both domains from pixels; nothing is pretrained."""
    config = defaults()
    config.data.source = "embedded:mnist"
    config.data.target = "embedded:optdigits"
    config.data.test_fraction = 0.5
    config.model.backbone = "random:digits-convnet"
    config.model.bottleneck = 0
    config.partition = ((".*", "train"),)
    config.method.name = "dann"
    config.method.strength = 1.0
    config.optimizer.learning_rate = 0.01
    config.optimizer.schedule = "inverse"
    config.optimizer.weight_decay = 1e-3
    config.keep.criterion = "information_maximization"
    config.steps = 2000
    return config
