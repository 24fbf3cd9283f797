"""The methods of fine-tuning, each against its paper's formula in NumPy."""

import dataclasses
from typing import Any

import fixed
import jax
import numpy as np
import pytest
from fixed import SOURCE, TASK, assert_close, draw, float64, softmax
from test_registered import build

from jtl import relationship
from jtl.errors import UserError
from jtl.types import Method, Outputs, Params

NOTHING: Any = None
START: Params = {
    "backbone": {"stage1": {"kernel": draw(2, 3), "bias": draw(3)}},
    "bottleneck": {"kernel": draw(3, 4)},
    "head": {"kernel": draw(4, 3), "bias": draw(3)},
}
PARAMS: Params = {
    "backbone": {"stage1": {"kernel": draw(2, 3), "bias": draw(3)}},
    "bottleneck": {"kernel": draw(3, 4)},
    "head": {"kernel": draw(4, 3), "bias": draw(3)},
}


def value(method: Method, params: Params = PARAMS, source: Any = SOURCE, **settings: Any) -> Any:
    """What a method minimises on the source alone, and its terms."""
    (phase,) = method.phases
    assert phase.reads == ("source",)
    scope = dataclasses.replace(fixed.scope(method, **settings), params=params)
    return phase.objective(source, NOTHING, scope)


def squares(*leaves: Any) -> float:
    return sum(float((float64(leaf) ** 2).sum()) for leaf in leaves)


def remembered(method: Method) -> Params:
    return method.remember(START, jax.random.key(0))


def test_l2_sp_draws_the_backbone_to_its_start_and_the_rest_to_0() -> None:
    method = build("l2_sp")
    total, terms = value(method, memory=remembered(method))
    start, now = START["backbone"]["stage1"], PARAMS["backbone"]["stage1"]
    kept = squares(now["kernel"] - start["kernel"], now["bias"] - start["bias"])
    new = squares(PARAMS["bottleneck"]["kernel"], *PARAMS["head"].values())
    assert_close(terms["task"], TASK)
    assert_close(total, TASK + 0.1 / 2 * kept + 0.01 / 2 * new)


IMAGES: dict[str, Any] = {
    "backbone/stage1": draw(8, 3, 3, 5),
    "backbone/dense": draw(8, 6),
    "bottleneck": draw(8, 4),
}
OLD_IMAGES: dict[str, Any] = {name: value + draw(*value.shape) for name, value in IMAGES.items()}


def test_delta_is_the_mean_squared_distance_of_each_channel_over_positions() -> None:
    method = build("delta")
    seen = []

    def forward(inputs: Any, params: Any) -> Outputs:
        seen.append((inputs, params))
        return Outputs(SOURCE.features, SOURCE.logits, OLD_IMAGES)

    source = SOURCE._replace(layers=IMAGES)
    total, terms = value(method, source=source, memory=remembered(method), forward=forward)
    moved = np.zeros(8)
    for name, positions in (("backbone/stage1", 9), ("backbone/dense", 1)):
        gap = float64(IMAGES[name]) - float64(OLD_IMAGES[name])
        moved += (gap**2).reshape(8, -1).sum(axis=1) / positions
    new = squares(PARAMS["bottleneck"]["kernel"], *PARAMS["head"].values()) / 2
    assert_close(terms["moved"], moved.mean())
    assert_close(total, TASK + 0.32 * moved.mean() + 0.01 * new)
    ((inputs, params),) = seen
    assert inputs is SOURCE.inputs and params["backbone"] is START["backbone"]


def test_delta_weighs_channels_by_what_was_measured_of_their_block() -> None:
    method = build("delta")
    weights = {"backbone/stage1": softmax(draw(1, 5))[0], "backbone/dense": softmax(draw(1, 6))[0]}
    scope = fixed.scope(
        method, memory=remembered(method), forward=lambda *_: Outputs(None, None, OLD_IMAGES)
    )
    scope = dataclasses.replace(scope, params=PARAMS, hyper={**scope.hyper, **weights})
    _, terms = method.phases[0].objective(SOURCE._replace(layers=IMAGES), NOTHING, scope)
    moved = np.zeros(8)
    for name, weight in weights.items():
        squared = (float64(IMAGES[name]) - float64(OLD_IMAGES[name])) ** 2
        squared = squared.reshape(8, -1, len(weight)).mean(axis=1)  # over positions
        moved += squared @ (len(weight) * weight)
    assert_close(terms["moved"], moved.mean())
    assert build("delta", attention=False).measure is None


def test_delta_without_a_trained_block_of_the_backbone_says_so() -> None:
    method = build("delta")
    outputs = Outputs(SOURCE.features, SOURCE.logits, {"bottleneck": draw(8, 4)})
    with pytest.raises(UserError, match=r"delta compares the backbone's blocks, and none is train"):
        value(method, memory=remembered(method), forward=lambda *_: outputs)


@pytest.mark.parametrize("k", [1, 2])
def test_bss_adds_the_smallest_squared_singular_values(k: int) -> None:
    total, terms = value(build("bss", k=k), strength=0.5)
    singular = np.linalg.svd(float64(SOURCE.features), compute_uv=False)
    assert_close(terms["shrinkage"], (singular[-k:] ** 2).sum())
    assert_close(total, TASK + 0.5 * (singular[-k:] ** 2).sum())


HEAD = {"dense": {"kernel": draw(fixed.FEATURES, 5), "bias": draw(5)}}
"""Of an earlier task with five classes."""
LABELS = np.array([0, 1, 1, 2, 0, 0, 2, 1])


def old_logits(features: Any) -> np.ndarray:
    return float64(features) @ HEAD["dense"]["kernel"] + HEAD["dense"]["bias"]


def test_co_tuning_teaches_the_old_head_what_each_label_means() -> None:
    method = build("co_tuning", pretrained_head=HEAD)
    table = softmax(draw(fixed.CLASSES, 5))
    logits = draw(8, 5)
    scope = fixed.scope(method, networks={"pretrained_head": lambda _: logits})
    scope = dataclasses.replace(scope, hyper={**scope.hyper, "relationship": table})
    total, terms = method.phases[0].objective(SOURCE, NOTHING, scope)
    old_task = -(table[SOURCE.labels] * np.log(softmax(logits))).sum(axis=1).mean()
    assert_close(terms["old_task"], old_task)
    assert_close(total, TASK + 2.3 * old_task)


def test_the_relationship_is_of_what_the_old_head_says_of_the_labelled_examples() -> None:
    features = draw(8, fixed.FEATURES)
    said = softmax(old_logits(features))
    direct = measured("direct", features, LABELS)
    assert_close(direct, [said[label == LABELS].mean(axis=0) for label in range(3)])
    held = np.isin(np.arange(8), [2, 4, 6])  # the second one of each class
    parts = said[~held], LABELS[~held], said[held], LABELS[held]
    assert_close(
        measured("calibrated", features, LABELS), relationship.calibrated(*parts), rtol=1e-3
    )


def measured(form: str, features: np.ndarray, labels: np.ndarray) -> Any:
    method = build("co_tuning", pretrained_head=HEAD, form=form)
    assert method.measure is not None
    return method.measure(fixed.Known(features), labels)["relationship"]


def test_one_label_a_class_cannot_be_calibrated() -> None:
    features, labels = draw(3, fixed.FEATURES), np.arange(3)
    with pytest.raises(
        UserError, match=r"each class has one; raise data\.per_class, or set direct"
    ):
        measured("calibrated", features, labels)
    assert measured("direct", features, labels).shape == (3, 5)
    with pytest.raises(UserError, match=r"no 'drect'; did you mean direct\?"):
        measured("drect", features, labels)


def test_lwf_distils_what_the_start_says_of_the_same_images_into_the_old_head() -> None:
    method = build("lwf", pretrained_head=HEAD)
    memory, features, says = remembered(method), draw(8, fixed.FEATURES), draw(8, 5)
    seen = []

    def forward(inputs: Any, params: Any) -> Outputs:
        seen.append((inputs, params))
        return Outputs(features, SOURCE.logits)

    networks = {"pretrained_head": lambda found: says if found is SOURCE.features else None}
    total, terms = value(method, memory=memory, networks=networks, forward=forward, strength=0.5)
    old, new = softmax(old_logits(features) / 2), softmax(says / 2)
    distance = 4 * (old * np.log(old / new)).sum(axis=1).mean()
    assert_close(terms["distillation"], distance)
    assert_close(total, TASK + 0.5 * distance)
    ((inputs, params),) = seen
    assert inputs is SOURCE.inputs and params is START


PROJECTOR = {"dense": {"kernel": draw(fixed.FEATURES, 2), "bias": draw(2)}}
WEIGHTS = draw(fixed.FEATURES, fixed.CLASSES)


def contrast(queries: Any, own: Any, queue: Any, queue_labels: Any, temperature: float) -> float:
    """As the paper has it, example by example."""
    losses = []
    for query, key, label in zip(queries, own, SOURCE.labels, strict=True):
        keys = np.concatenate([key[None], queue[queue_labels >= 0]])
        labels = np.concatenate([[label], queue_labels[queue_labels >= 0]])
        cosines = keys @ query / np.linalg.norm(keys, axis=1) / np.linalg.norm(query)
        shares = np.exp(cosines / temperature) / np.exp(cosines / temperature).sum()
        losses.append(-np.log(shares[labels == label]).mean())
    return float(np.mean(losses))


def test_bi_tuning_contrasts_features_with_the_heads_weights_and_projections_with_each_other() -> (
    None
):
    method = build("bi_tuning", features=fixed.FEATURES, width=2, slots=2)
    params = {"head": {"kernel": WEIGHTS, "bias": draw(3)}, "projector": PROJECTOR}
    memory = method.remember(params, jax.random.key(0))
    assert memory["labels"].tolist() == [-1] * 6
    memory |= {"labels": np.array([2, 0, 0, 1, -1, -1], np.int32)}
    memory |= {"features": draw(6, fixed.FEATURES), "keys": draw(6, 2)}
    teachers, projections = draw(8, fixed.FEATURES), draw(8, 2)
    total, terms = value(
        method,
        params,
        memory=memory,
        networks={"projector": lambda found: projections if found is SOURCE.features else None},
        forward=lambda inputs, given: Outputs(teachers if given is params else NOTHING, NOTHING),
        temperature=0.5,
        strength=0.1,
    )
    of_class = float64(WEIGHTS).T[SOURCE.labels]
    queue = memory["features"], memory["labels"], 0.5
    around_weights = contrast(of_class, float64(SOURCE.features), *queue)
    keys = float64(teachers) @ PROJECTOR["dense"]["kernel"] + PROJECTOR["dense"]["bias"]
    around_each_other = contrast(float64(projections), keys, memory["keys"], *queue[1:])
    assert_close(terms["around_weights"], around_weights)
    assert_close(terms["around_each_other"], around_each_other)
    assert_close(total, TASK + 0.1 * (around_weights + around_each_other))


def test_the_newest_keys_of_bi_tuning_come_first_and_its_teacher_follows_slowly() -> None:
    method = build("bi_tuning", features=fixed.FEATURES, width=2, slots=4)
    old = {"head": {"kernel": WEIGHTS}, "projector": PROJECTOR}
    new = {"head": {"kernel": WEIGHTS + 1}, "projector": PROJECTOR}
    memory = method.remember(old, jax.random.key(0))
    memory |= {"labels": np.arange(12, dtype=np.int32)}
    found = draw(8, fixed.FEATURES)

    def forward(inputs: Any, given: Any) -> Outputs:
        assert inputs is SOURCE.inputs and given is old
        return Outputs(found, NOTHING)

    scope = fixed.scope(method, memory=memory, forward=forward, decay=0.75)
    after = method.update_memory(SOURCE, None, dataclasses.replace(scope, params=new))
    assert after["labels"].tolist() == [*SOURCE.labels.tolist(), 0, 1, 2, 3]
    assert_close(after["features"][:8], found)
    assert_close(
        after["keys"][:8], found @ PROJECTOR["dense"]["kernel"] + PROJECTOR["dense"]["bias"]
    )
    assert_close(after["features"][8:], 0.0)
    assert_close(after["teacher"]["head"]["kernel"], WEIGHTS + 0.25)


def test_bi_tuning_needs_a_head_and_a_projector_that_train() -> None:
    method = build("bi_tuning")
    with pytest.raises(UserError, match=r"bi_tuning trains all of head/\.\*; label it 'train'"):
        method.remember({"projector": PROJECTOR}, jax.random.key(0))
    low_rank = {"kernel": WEIGHTS, "kernel_lora_a": WEIGHTS, "kernel_lora_b": WEIGHTS}
    with pytest.raises(UserError, match=r"model\.lora\.on: bi_tuning reads the head's weights"):
        method.remember({"projector": PROJECTOR, "head": low_rank}, jax.random.key(0))
