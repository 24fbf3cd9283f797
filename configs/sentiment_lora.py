"""LoRA (arXiv 2106.09685) on a sentence encoder, trained on one domain of texts.

./launch.sh configs/sentiment_lora.py              # Amazon, tested on film reviews too
./launch.sh configs/sentiment_lora.py:tweets-nyt   # or any two of amazon, film, nyt, tweets

Target accuracy of the first command: 74.5 % (95 % interval 72.7 to 76.1), one run on one cpu.
"""

from ml_collections import ConfigDict

from jtl.configuration import like


def get_config(pair: str = "amazon-film") -> ConfigDict:
    """Leaves of rank 8 beside the queries and values of the upper half, and a linear head."""
    config = like(__file__, "sentiment_probe.py", pair)
    config.model.max_tokens = 48  # the rest of one text in twenty is cut
    config.model.lora.rank = 8
    config.model.lora.alpha = 16.0
    config.model.lora.on = "backbone/layer[456]/attention/(query|value)/kernel"
    config.partition = ((".*_lora_[ab]", "slow"), ("head/.*", "train"), (".*", "freeze"))
    config.optimizer.groups.slow = 0.1
    config.batch_size = 32
    config.steps = 200
    config.eval_every = config.checkpoint_every = 100
    return config
