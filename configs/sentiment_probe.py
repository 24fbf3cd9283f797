"""A linear probe: what a sentence encoder, left as it is, knows of sentiment.

./launch.sh configs/sentiment_probe.py              # trained on Amazon, tested on films too
./launch.sh configs/sentiment_probe.py:tweets-nyt   # or any two of amazon, film, nyt, tweets

Target accuracy of the first command: 71.9 % (95 % interval 70.2 to 73.7), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(pair: str = "amazon-film") -> ConfigDict:
    """One linear layer; the encoder's features have length 1, so it learns at a high rate."""
    config = like(__file__, "sentiment_source_only.py", pair)
    config.model.bottleneck = 0
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 0.01
    config.optimizer.schedule = "cosine"
    config.optimizer.weight_decay = 1e-2
    config.steps = 1000
    return config
