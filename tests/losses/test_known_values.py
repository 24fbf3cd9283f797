"""Our values beside those of published implementations, run once in float64 on the same inputs.

Each number was printed by the implementation named, in PyTorch, on the arrays imported here. "The
library" is thuml's Transfer-Learning-Library, most of it by the authors of the papers.
"""

import jax.numpy as jnp
import numpy as np
from families.common import LABELS, LOGITS, OTHER_LOGITS, SOURCE, TARGET, normal, softmax
from families.regularization import (
    CHANNELS,
    KEYS,
    MAPS,
    OLD_MAPS,
    QUERIES,
    QUEUE,
    RELATIONSHIP,
    SOURCE_LOGITS,
)

from jtl import losses

assert_close = np.testing.assert_allclose


def library_class_confusion(logits: np.ndarray, temperature: float = 2.5) -> float:
    """What the authors' code computes: an entropy with 1e-5 inside its logarithm."""
    p = softmax(logits / temperature)
    weights = 1 + np.exp(-(-p * np.log(p + 1e-5)).sum(axis=1))
    confusion = (p * (len(p) * weights / weights.sum())[:, None]).T @ p
    confusion = confusion / confusion.sum(axis=1)
    return (confusion.sum() - np.trace(confusion)) / len(confusion)


def test_class_confusion_is_the_authors_but_for_their_epsilon() -> None:
    assert_close(library_class_confusion(LOGITS), 0.6377764657334638, rtol=1e-12)
    assert_close(losses.minimum_class_confusion(jnp.float32(LOGITS)), 0.6377764657334638, rtol=1e-5)


def test_a_class_without_mass_breaks_the_authors_class_confusion() -> None:
    logits = LOGITS.copy()
    logits[:, 1] = -np.inf
    with np.errstate(invalid="ignore"):
        assert np.isnan(library_class_confusion(logits))
    assert np.isfinite(losses.minimum_class_confusion(jnp.float32(logits)))


def test_the_authors_divide_the_nuclear_norm_by_the_smaller_side() -> None:
    """Their adaptation code takes the mean singular value; their semi-supervised code is ours."""
    ours = losses.batch_nuclear_norm(jnp.float32(LOGITS))
    assert_close(ours * len(LOGITS) / min(LOGITS.shape), -1.0608010652168611, rtol=1e-6)
    assert_close(ours, -0.39780039945632273, rtol=1e-6)


def test_the_librarys_distillation_lacks_the_squared_temperature() -> None:
    student, teacher = jnp.float32(LOGITS), jnp.float32(OTHER_LOGITS)
    ours = losses.distillation(student, teacher, temperature=3.0).mean()
    assert_close(ours / 9, 0.06436636177121995, rtol=1e-5)


def test_consistency_is_the_librarys_pseudo_labels_and_not_its_consistency() -> None:
    """The latter, for UDA, compares whole distributions and averages over the sure rows only."""
    weak, strong = jnp.float32(LOGITS), jnp.float32(OTHER_LOGITS)
    ours = losses.consistency(weak, strong, threshold=0.6)
    assert_close(ours, 0.6795844511982443, rtol=1e-6)
    p, q = softmax(LOGITS), softmax(OTHER_LOGITS)
    sure = p.max(axis=1) > 0.6
    divergence = (p * np.log(p / q)).sum(axis=1)
    assert_close(divergence[sure].mean(), 0.5235641481093622, rtol=1e-12)


def test_the_hard_norm_has_the_mean_inside_the_square_as_the_authors_code_does() -> None:
    ours = losses.hard_feature_norm(jnp.float32(SOURCE))
    assert_close(ours, 538.9508072602513, rtol=1e-6)
    outside = np.mean((np.linalg.norm(SOURCE, axis=1) - 25) ** 2)
    assert_close(outside, 538.9808925551939, rtol=1e-12)


def test_spectral_losses_are_the_authors() -> None:
    source, target = jnp.float32(SOURCE), jnp.float32(TARGET)
    penalty = losses.batch_spectral_penalty(source) + losses.batch_spectral_penalty(target)
    assert_close(penalty, 45.03312361595308, rtol=1e-6)
    assert_close(losses.batch_spectral_shrinkage(source), 2.405030046184173, rtol=1e-6)


def test_the_authors_delta_sums_over_the_batch_and_halves() -> None:
    new, old = {"maps": jnp.float32(MAPS)}, {"maps": jnp.float32(OLD_MAPS)}
    assert_close(losses.delta(new, old) * len(MAPS) / 2, 94.29312592667277, rtol=1e-6)


def test_the_authors_attention_counts_channels_and_averages_positions() -> None:
    new, old = {"maps": jnp.float32(MAPS)}, {"maps": jnp.float32(OLD_MAPS)}
    examples, height, width, channels = MAPS.shape
    weights = {"maps": jnp.float32(CHANNELS["maps"])}
    ours = losses.delta(new, old, weights=weights)
    assert_close(ours * examples * channels / (2 * height * width), 20.716478359982577, rtol=1e-6)


def test_co_tuning_is_the_librarys() -> None:
    arguments = jnp.float32(SOURCE_LOGITS), LABELS, jnp.float32(RELATIONSHIP)
    assert_close(losses.co_tuning(*arguments).mean(), 1.7319933554469946, rtol=1e-6)


def test_bi_tuning_is_the_librarys_up_to_the_entropy_of_its_targets() -> None:
    """It reports a divergence: with two keys a class, log 3 less, which moves no gradient."""
    queries, keys, queue = (jnp.float32(rows) for rows in (QUERIES, KEYS, QUEUE))
    queue_labels = np.repeat(np.arange(3), 2)
    contrast = losses.bi_tuning(queries, keys, LABELS, queue, queue_labels).mean()
    assert_close(contrast - np.log(3), 6.966707632337231, rtol=1e-6)

    # For the classifier's loss it has put the batch's keys into the queue already.
    slots = np.array(queue).reshape(3, 2, 4)
    for number, (key, label) in enumerate(zip(keys, LABELS, strict=True)):
        slots[label, np.sum(LABELS[:number] == label) % 2] = key
    prototypes = jnp.float32(normal(3, 4, seed=14))
    of_classes = losses.bi_tuning(
        prototypes[LABELS], queries, LABELS, jnp.asarray(slots.reshape(6, 4)), queue_labels
    )
    assert_close(of_classes.mean() - np.log(3), 9.302586491441504, rtol=1e-6)
