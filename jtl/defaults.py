"""Every key of a config, with its default and what it means.

Nothing here imports JAX.
"""

from ml_collections import ConfigDict


def defaults() -> ConfigDict:
    """Every key that every config has, but for the settings of its method and its groups.

    Fractions and progress go from 0 to 1 over training, or over a data set.
    """
    config = ConfigDict(type_safe=False)
    # All randomness of training: initial parameters, order of examples, dropout, augmentation.
    config.seed = 0
    config.steps = 1000
    # Examples a step, from each domain, over all devices.
    config.batch_size = 64
    # In how many parts a batch passes through the model, one after another
    # (`jtl.training.accumulation`).
    config.accumulate = 1
    config.data = _data()
    config.model = _model()
    # The method (`jtl.catalogue.METHODS`, with its settings); those stand beside the name.
    config.method = ConfigDict({"name": "supervised"}, type_safe=False)
    # (pattern, label) pairs over parameter paths; the first that matches decides. Labels: "train",
    # "freeze", or one of optimizer.groups.
    config.partition = ((".*", "train"),)
    # Gradual unfreezing: ((progress, rules), ...), each rules replacing those before it.
    config.unfreeze = ()
    config.optimizer = _optimizer()
    # Which batch normalises what: source and target together ("joint"), each its own ("separate"),
    # the stored statistics ("frozen"), or each its own in some channels ("stochastic").
    config.batch_norm = "separate"
    # With "stochastic", the probability that a channel is normalised by its batch.
    config.batch_norm_share = 0.5
    # In steps.
    config.eval_every = 100
    config.checkpoint_every = 100
    # How many checkpoints stay, what "best" means (a validator, which reads no target label), and
    # which of them the run ends with: the "latest" or the "best".
    config.keep = ConfigDict(type_safe=False)
    config.keep.latest = 2
    config.keep.best = 1
    config.keep.criterion = "source_risk"
    # Of each domain, the most examples that validators read.
    config.keep.examples = 2000
    config.keep.model = "latest"
    # How far from the start to the end of training (0 to 1) classifiers are tested too: their
    # parameters are between those of model.initial and those that the run ends with.
    config.interpolate = ()
    # Whether the frozen blocks run once, and what they give is kept for later runs too, and images
    # that do not fit in memory are decoded once; if not, at every step.
    config.cache = True
    # How the step is spread over devices, and how many of each process's there are; 0 is all.
    config.parallel = "jit"
    config.devices = 0
    # Parameters whose whole path this pattern matches are shared out over the devices, with what
    # the optimizer keeps for them (FSDP); "" shares none.
    config.shard = ""
    return config


def _data() -> ConfigDict:
    data = ConfigDict(type_safe=False)
    # Where the data are, as prefix:rest (`jtl.registry.DATA`). No target: "".
    data.source = ""
    data.target = ""
    # The part of each domain held out for testing, where the data bring no split of their own. It
    # depends on split_seed alone, so that every seed of training is tested on the same examples.
    data.test_fraction = 0.25
    data.split_seed = 0
    # Labelled training examples a class; 0 is all of them.
    data.per_class = 0
    # Of a table (csv:, jsonl:, parquet:): the columns of the texts and of the labels. Where the
    # backbone takes vectors, they are all columns but that of the labels.
    data.text_column = "text"
    data.label_column = "label"
    # What is done to training images inside the step (`jtl.data.augment`).
    data.augment = "none"
    return data


def _model() -> ConfigDict:
    model = ConfigDict(type_safe=False)
    # What is transferred, as prefix:rest (`jtl.registry.BACKBONES`).
    model.backbone = ""
    # The folder of a finished run, whose whole classifier (bottleneck and head too) this one starts
    # from; "" is none.
    model.initial = ""
    # Width of the dense layer between backbone and head; 0 is none.
    model.bottleneck = 256
    # What normalises that layer: "layer", each example by itself, or "batch".
    model.norm = "layer"
    # Probability of zeroing a feature before the head.
    model.dropout = 0.0
    # Side of the input in pixels; 0 is the backbone's own.
    model.image_size = 0
    # The most tokens of a text, what is longer being cut; 0 is the backbone's own.
    model.max_tokens = 0
    # Whether vectors are brought to mean 0 and deviation 1, column by column, as the source's
    # training examples have them.
    model.standardize = False
    # How tokens become features: "class", "mean", "both" or "attention"; "" is the backbone's own.
    model.pooling = ""
    # What the backbone computes in: "float32", or "bfloat16" on float32 parameters.
    model.compute = "float32"
    # Whether the backward pass computes the forward pass of each block of the backbone again, which
    # costs time and saves memory.
    model.remat = False
    # Low-rank leaves beside kernels (`jtl.models.lora`): their rank, 0 for none; the factor of what
    # they add, over the rank; and a pattern over the paths of the kernels.
    model.lora = ConfigDict(type_safe=False)
    model.lora.rank = 0
    model.lora.alpha = 8.0
    model.lora.on = "backbone/.*"
    return model


def _optimizer() -> ConfigDict:
    optimizer = ConfigDict(type_safe=False)
    optimizer.name = "sgd"
    # At its highest, after the warm-up.
    optimizer.learning_rate = 0.01
    optimizer.weight_decay = 0.0
    # Nesterov momentum of sgd, first moment of adamw.
    optimizer.momentum = 0.9
    optimizer.schedule = "constant"
    # Fraction of training over which the learning rate rises from 0.
    optimizer.warmup = 0.0
    # Largest norm of the gradient; 0 is no bound.
    optimizer.clip = 0.0
    # The learning rate of a block is multiplied by this once for every block above it; 1 is off.
    optimizer.layer_decay = 1.0
    # Learning-rate factor of each group that partition names; empty until some are added.
    optimizer.groups = ConfigDict(type_safe=False)
    return optimizer
