"""What the papers' own code gives, against jtl: equal, or different as docs/losses.md says.

The numbers come from running that code (named in ``tools/peers``) in float64 on these inputs: they
hold the transcriptions to it, and the transcriptions hold jtl.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtl import losses

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from peers import adversarial, discrepancy, transport
from peers.common import softmax, squared_distances

SOURCE, TARGET = discrepancy.SOURCE, discrepancy.TARGET
S, T = jnp.float32(SOURCE), jnp.float32(TARGET)
LAYERS = [SOURCE, softmax(SOURCE[:, :3])], [TARGET, softmax(TARGET[:, :3])]


def mean_octaves() -> jax.Array:
    rows = np.concatenate([SOURCE, TARGET])
    mean = squared_distances(rows, rows).sum() / (len(rows) * (len(rows) - 1))
    return jnp.float32(mean / 4 * 2.0 ** np.arange(5))


@pytest.mark.parametrize(
    ("transcription", "original"),
    [
        (lambda: discrepancy.xlearn(SOURCE, TARGET), 0.1007834),
        (lambda: discrepancy.xlearn(SOURCE, SOURCE), -0.3497102),
        (lambda: discrepancy.pykale(SOURCE, TARGET), 0.8892752),
        (lambda: discrepancy.deepda(SOURCE, TARGET), 0.4375888),
        (lambda: discrepancy.tllib(SOURCE, TARGET, linear=True), 1.0271075),
        (lambda: discrepancy.tllib(SOURCE, TARGET, linear=False), 0.2348126),
        (lambda: discrepancy.pytorch_adapt(SOURCE, TARGET, linear=True), 0.1693894),
        (lambda: discrepancy.pytorch_adapt(SOURCE, TARGET, linear=False), 0.0264291),
        (lambda: discrepancy.skada_mmd(SOURCE, TARGET), 2.4457073),
        (lambda: discrepancy.dassl(SOURCE, TARGET), 0.0312707),
        (lambda: discrepancy.domainbed_mmd(SOURCE, TARGET), 0.6144137),
        (lambda: discrepancy.xlearn_joint(*LAYERS), 0.1328269),
        (lambda: discrepancy.pytorch_adapt_coral(SOURCE, TARGET), 0.0709231),
        (lambda: discrepancy.tllib_coral(SOURCE, TARGET), 0.4563270),
        (lambda: discrepancy.adatime_coral(SOURCE, TARGET), 0.9973560),
        (lambda: adversarial.mdd(adversarial.Heads(*adversarial.LOGITS)), -5.9307973),
        (lambda: adversarial.tllib_mdd(adversarial.Heads(*adversarial.LOGITS)), -5.9307952),
        (lambda: adversarial.skada_mdd(adversarial.Heads(*adversarial.LOGITS)), -4.9925154),
        (lambda: adversarial.skada_domain_loss(np.arange(5.0), np.arange(5.0)), 100.0),
        (lambda: 1000 * transport.paper(0.001, 0.0001), 2.2216409),
        (lambda: 1000 * transport.paper(0.001, 0.01), 10.1176717),
    ],
)
def test_a_transcription_gives_the_number_of_the_code_it_was_read_in(
    transcription: object, original: float
) -> None:
    assert callable(transcription)
    np.testing.assert_allclose(transcription(), original, atol=1e-7)


def test_with_their_bandwidths_five_times_mmd_is_that_of_dans_authors() -> None:
    unbiased = losses.mmd(S, T, estimator="unbiased", bandwidths=mean_octaves())
    np.testing.assert_allclose(5 * unbiased, discrepancy.xlearn(SOURCE, TARGET), rtol=1e-4)
    biased = losses.mmd(S, T, bandwidths=mean_octaves())
    np.testing.assert_allclose(5 * biased, discrepancy.deepda(SOURCE, TARGET), rtol=1e-5)


def test_with_its_bandwidth_linear_mmd_is_pytorch_adapts() -> None:
    median = np.sort(squared_distances(SOURCE, SOURCE).ravel())[127]
    found = losses.mmd(S, T, estimator="linear", bandwidths=jnp.float32([median]))
    expected = discrepancy.pytorch_adapt(SOURCE, TARGET, linear=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_with_their_bandwidths_five_times_joint_mmd_is_that_of_jans_authors() -> None:
    layers = [[jnp.float32(layer) for layer in domain] for domain in LAYERS]
    widths = [mean_octaves(), jnp.float32([1.68])]
    found = losses.joint_mmd(*layers, estimator="unbiased", bandwidths=widths)
    np.testing.assert_allclose(5 * found, discrepancy.xlearn_joint(*LAYERS), rtol=1e-4)


def test_coral_is_that_of_four_peers_and_a_quarter_of_two_others_without_their_means() -> None:
    found = losses.coral(S, T)
    np.testing.assert_allclose(found, discrepancy.pytorch_adapt_coral(SOURCE, TARGET), rtol=1e-5)
    means = ((SOURCE.mean(axis=0) - TARGET.mean(axis=0)) ** 2).mean()
    np.testing.assert_allclose(
        4 * found + means, discrepancy.tllib_coral(SOURCE, TARGET), rtol=1e-5
    )


def test_margin_disparity_is_minus_what_its_authors_minimise() -> None:
    heads = adversarial.Heads(*adversarial.LOGITS)
    np.testing.assert_allclose(adversarial.jtl_mdd(heads), adversarial.mdd(heads), rtol=1e-5)


def test_multilinear_map_is_that_of_cdans_authors_with_its_columns_in_another_order() -> None:
    features, probabilities = LAYERS[0]
    theirs = np.einsum("ic,ik->ick", probabilities, features)  # bmm(g, f), then flattened
    ours = losses.multilinear_map(jnp.float32(features), jnp.float32(probabilities))
    np.testing.assert_allclose(ours.reshape(16, 4, 3).transpose(0, 2, 1), theirs, rtol=1e-5)


def test_weighted_domain_loss_is_that_of_cdans_authors() -> None:
    """With the probabilities below, thuml/CDAN's ``CDAN`` gives 0.703099."""
    source, target = jnp.float32([0.3, 0.6, 0.8]), jnp.float32([0.2, 0.5, 0.7])
    weights = [
        losses.entropy_weights(jnp.float32(logits))
        for logits in (adversarial.SOURCE_LOGITS, adversarial.TARGET_LOGITS)
    ]
    found = losses.domain_adversarial(
        jnp.log(source / (1 - source)),
        jnp.log(target / (1 - target)),
        source_weights=weights[0],
        target_weights=weights[1],
    )
    np.testing.assert_allclose(found, 0.703099, atol=3e-6)  # they add 1e-5 in the entropy


def test_central_moments_are_those_of_cmds_authors() -> None:
    found = losses.central_moment_discrepancy(S, T)
    np.testing.assert_allclose(found, transport.cmd(SOURCE, TARGET), rtol=1e-5)


def test_sliced_wasserstein_of_equal_batches_is_that_of_swds_authors() -> None:
    key = jax.random.key(1)
    directions = np.asarray(jax.random.normal(key, (7, 4))).T
    found = losses.sliced_wasserstein(S, T, key, projections=7)
    np.testing.assert_allclose(found, transport.swd(SOURCE, TARGET, directions), rtol=1e-5)


def test_joint_transport_is_above_the_exact_plans_and_within_a_few_percent() -> None:
    for lambda_t in (0.0001, 0.01):
        least = transport.paper(0.001, lambda_t)
        found = transport.jtl_transport(0.001, lambda_t)
        assert least <= found < 1.05 * least
        assert transport.authors(0.001, lambda_t) > 1.05 * least


def test_the_paces_of_the_reversal_are_those_named() -> None:
    paper, theirs = adversarial.ramp(1000, 1000)
    assert (round(paper, 2), round(theirs, 2)) == (1.0, 0.46)
    assert adversarial.ramp(100_000, 100_000)[1] == theirs
