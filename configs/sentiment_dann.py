"""Domain-adversarial adaptation of a sentiment classifier, from one domain of texts to another.

./launch.sh configs/sentiment_dann.py              # Amazon to film reviews
./launch.sh configs/sentiment_dann.py:tweets-nyt   # or any two of amazon, film, nyt, tweets

Target accuracy of the first command: 72.4 % (95 % interval 70.6 to 74.1), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(pair: str = "amazon-film") -> ConfigDict:
    """As sentiment_source_only, but for the method, with its authors' strength."""
    config = like(__file__, "sentiment_source_only.py", pair)
    config.method.name = "dann"
    config.method.strength = 1.0
    return config
