from typing import Any

import jax
import numpy as np
import pytest
import toys
from hypothesis import given
from hypothesis import strategies as st

from jtl import partition
from jtl.errors import UserError

PARAMS = {
    "backbone": {"stem": {"kernel": 1.0, "bias": 2.0}, "stage1": {"kernel": 3.0}},
    "head": {"kernel": 4.0},
}
NAMES = st.sampled_from(["a", "b", "c", "d"])
TREES = st.recursive(
    st.dictionaries(NAMES, st.integers(), min_size=1),
    lambda inner: st.dictionaries(NAMES, st.integers() | inner, min_size=1),
    max_leaves=12,
)


def paths(tree: dict[str, Any]) -> dict[str, Any]:
    return dict(partition.walk(tree))


def test_a_path_is_the_keys_joined() -> None:
    assert list(paths(PARAMS)) == [
        "backbone/stem/kernel",
        "backbone/stem/bias",
        "backbone/stage1/kernel",
        "head/kernel",
    ]


def test_the_first_matching_rule_decides() -> None:
    rules = ((".*/bias", "slow"), ("backbone/.*", "freeze"), (".*", "train"))
    assert paths(partition.label(PARAMS, rules)) == {
        "backbone/stem/kernel": "freeze",
        "backbone/stem/bias": "slow",
        "backbone/stage1/kernel": "freeze",
        "head/kernel": "train",
    }


def test_a_rule_matches_the_whole_path() -> None:
    with pytest.raises(UserError, match="no rule matches the parameter backbone/stem/kernel"):
        partition.label(PARAMS, (("backbone/stem", "freeze"), ("head/.*", "train")))


def test_an_unmatched_leaf_is_named() -> None:
    with pytest.raises(UserError, match=r"no rule matches the parameter head/kernel; .*freeze"):
        partition.label(PARAMS, (("backbone/.*", "freeze"),))


@pytest.mark.parametrize(
    "rules",
    [
        (("backbon/.*", "freeze"), (".*", "train")),
        ((".*", "train"), ("backbon/.*", "freeze")),
        (("backbone/.*", "freeze"), ("backbon./stem/.*", "train"), (".*", "train")),
    ],
)
def test_a_rule_that_decides_nothing_is_named(rules: partition.Rules) -> None:
    with pytest.raises(UserError, match=r"the rule \('backbon.* decides no parameter; .*head"):
        partition.label(PARAMS, rules)


@given(TREES, st.data())
def test_split_and_merge_are_inverse(tree: dict[str, Any], data: st.DataObject) -> None:
    mask = partition.map_paths(lambda path, leaf: data.draw(st.booleans()), tree)
    chosen, others = partition.split(tree, mask)
    assert partition.merge(chosen, others) == tree == partition.merge(others, chosen)
    masks = paths(mask)
    assert paths(chosen) == {path: leaf for path, leaf in paths(tree).items() if masks[path]}
    assert paths(others) == {path: leaf for path, leaf in paths(tree).items() if not masks[path]}


def test_splitting_and_merging_change_neither_argument() -> None:
    tree = {"a": {"b": 1, "c": 2}}
    chosen, others = partition.split(tree, {"a": {"b": True, "c": False}})
    partition.merge(chosen, others)
    assert (tree, chosen, others) == ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": 2}})


def test_overwriting_takes_the_given_leaves_and_no_others() -> None:
    changed = partition.overwrite(PARAMS, {"backbone": {"stem": {"bias": 9.0}}})
    assert paths(changed) == paths(PARAMS) | {"backbone/stem/bias": 9.0}
    assert PARAMS["backbone"]["stem"]["bias"] == 2.0


@pytest.mark.parametrize(
    "given", [{"heat": {"kernel": 1.0}}, {"head": {"kernels": 1.0}}, {"head": {"kernel": {"a": 1}}}]
)
def test_overwriting_what_is_not_there_names_the_leaf(given: dict[str, Any]) -> None:
    (path,) = paths(given)
    with pytest.raises(UserError, match=rf"^{path}: .*no such parameter; did you mean head/kernel"):
        partition.overwrite(PARAMS, given)


def test_overwriting_with_another_shape_names_the_leaf_and_both_shapes() -> None:
    tree = {"head": {"kernel": np.zeros((8, 3)), "bias": np.zeros(3)}}
    given = {"head": {"kernel": np.zeros((8, 4))}}
    with pytest.raises(UserError, match=r"^head/kernel: .* \(8, 4\), .* \(8, 3\)"):
        partition.overwrite(tree, given)
    with pytest.raises(UserError, match=r"^head: .*no such parameter"):
        partition.overwrite(tree, {"head": np.zeros(3)})


def test_a_run_does_not_start_from_parameters_of_another_model() -> None:
    """Also where shapes are all there is: when the start is compiled."""
    run = toys.run("supervised", plain=True)
    given = {"head": {"kernel": np.zeros((toys.WIDTH, toys.CLASSES + 1), np.float32)}}
    with pytest.raises(UserError, match=r"^head/kernel: .* \(8, 4\), .* \(8, 3\)"):
        jax.eval_shape(lambda: run.training.init(0, run.hyper, (given, {})))


def test_a_module_trains_when_one_of_its_parameters_does() -> None:
    labels = {
        "stem": {"dense": {"kernel": "train"}, "norm": {"scale": "freeze", "bias": "freeze"}},
        "stem1": {"norm": {"scale": "slow"}},
        "stage": {"norm": {"scale": "freeze"}},
    }
    trains = partition.training_modules(labels)
    assert trains("stem") and trains("stem/dense") and not trains("stem/norm")
    assert trains("stem1/norm"), "a named group trains"
    assert not trains("stage") and not trains("stage/norm")
    assert trains(""), "the whole"


def test_a_module_without_parameters_does_as_its_parent() -> None:
    trains = partition.training_modules({"a": {"w": "freeze"}, "b": {"c": {"w": "train"}}})
    assert not trains("a/dropout") and not trains("a/inner/dropout")
    assert trains("b/dropout") and trains("b/c/dropout")


def test_a_norm_moves_where_its_parameters_train_and_no_module_without_any_does() -> None:
    """Deviations of columns are statistics too, and stay."""
    params = {"a": {"scale": 0.0}, "b": {"norm": {"scale": 0.0}}, "head": {"bias": 0.0}}
    stats = {"a": {"mean": 0.0}, "b": {"norm": {"mean": 0.0}}, "columns": {"mean": 0.0}}
    labels = partition.label(params, (("a/.*", "freeze"), (".*", "train")))
    assert partition.moving_norms(labels, stats) == ["b/norm"]


def test_a_prefix_of_a_name_is_another_module() -> None:
    trains = partition.training_modules(
        {"a": {"stage10": {"w": "train"}, "stage1": {"w": "freeze"}}}
    )
    assert not trains("a/stage1") and trains("a/stage10")


def test_labels_cover_every_parameter_of_a_real_run() -> None:
    state = toys.run("dann").start()
    labels = partition.label(state.params, toys.FROZEN_BACKBONE)
    frozen = {path for path, label in partition.walk(labels) if label == partition.FREEZE}
    assert frozen == {path for path in paths(state.params) if path.startswith("backbone/")}
