"""What adaptation has to beat: a network trained on MNIST alone, tested on optdigits.

./launch.sh configs/digits_source_only.py

Target accuracy of the first command: 76.1 % (95 % interval 73.2 to 79.0), one run on one cpu.
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
    config.method.name = "supervised"
    config.optimizer.learning_rate = 0.01
    config.optimizer.schedule = "inverse"
    config.optimizer.weight_decay = 1e-3
    config.keep.criterion = "information_maximization"
    config.steps = 2000
    return config
