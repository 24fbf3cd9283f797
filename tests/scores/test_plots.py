import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from jtl import plots
from jtl.plots.features import Domains, _thin, embed, mixing
from jtl.plots.style import CLASSES, SERIES, class_colours, label_ends, new_figure

CLASSES_LONG = ("Smileys & Emotion", "Travel & Places", "$5 $6", "d")


def predicted(examples: int = 40, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=examples)
    odds = generator.random((examples, classes)) + np.eye(classes)[labels]
    return odds / odds.sum(1, keepdims=True), labels


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


def drawn(figure: Figure) -> np.ndarray:
    """Renders, so that a layout that fails to fit warns, which is an error here."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def records(steps: int = 200) -> list[dict]:
    train = [
        {"step": s, "split": "train", "values": {"task": 1 / s, "learning_rate": 1e-3}}
        for s in range(1, steps + 1)
    ]
    held_out = [
        {"step": s, "split": "target_test", "values": {"accuracy": s / steps, "ece": 0.1}}
        for s in range(50, steps + 1, 50)
    ]
    return train + held_out


def test_learning_curves_draw_what_the_records_hold() -> None:
    figure = plots.learning_curves(records())
    drawn(figure)
    left, right = figure.axes
    steps, accuracy = left.lines[0].get_data()
    np.testing.assert_allclose(steps, [50, 100, 150, 200])
    np.testing.assert_allclose(accuracy, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(right.lines[0].get_ydata()[:2], [1.0, 0.5])
    assert "target test 100.0 %" in texts(figure)
    assert not any("learning rate" in text for text in texts(figure))


def test_learning_curves_survive_a_run_that_diverged_or_just_began() -> None:
    diverged = [{"step": 1, "split": "train", "values": {"task": float("nan")}}]
    for given in ([], records(1), diverged):
        figure = plots.learning_curves(given)
        drawn(figure)
        losses = figure.axes[1].lines
        assert len(losses) > 0 if given else not losses


def test_the_smoothed_line_follows_its_points() -> None:
    figure = plots.learning_curves(
        [{"step": s, "split": "train", "values": {"task": 2.0}} for s in range(400)]
    )
    np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata(), 2.0)
    rising = plots.learning_curves(
        [{"step": s, "split": "train", "values": {"task": float(s)}} for s in range(400)]
    )
    smooth = np.asarray(rising.axes[1].lines[1].get_ydata())
    np.testing.assert_allclose(smooth[:-5], np.arange(395))
    assert (np.diff(smooth) > 0).all() and smooth[-1] == pytest.approx(396.5)


def test_confusion_matrices_show_counts_and_shares_of_the_row() -> None:
    labels = np.array([0, 0, 0, 1])
    figure = plots.confusion_matrices(
        {"source_test": (np.eye(2)[[0, 0, 1, 1]], labels)}, ("Smileys & Emotion", "b")
    )
    drawn(figure)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[2 / 3, 1 / 3], [0, 1]])
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written == ["2", "1", "1"]
    assert "Source test: 75.0 % right" in texts(figure)
    assert "Smileys & Emotion" in texts(figure)


def test_a_class_without_examples_leaves_its_row_empty() -> None:
    probabilities, labels = predicted()
    figure = plots.confusion_matrices({"a": (probabilities, np.zeros_like(labels))}, CLASSES_LONG)
    assert np.isfinite(figure.axes[0].images[0].get_array()).all()


@pytest.mark.parametrize("classes", [2, 10, 21, 60])
def test_any_number_of_classes_fits(classes: int) -> None:
    names = [f"a rather long class name {k}" for k in range(classes)]
    splits = {"source_test": predicted(200, classes), "target_test": predicted(200, classes, 1)}
    drawn(plots.confusion_matrices(splits, names))
    assert len(class_colours(classes)) == classes


def test_reliability_draws_accuracy_by_bin_and_how_many() -> None:
    probabilities = np.tile([0.9, 0.1], (10, 1))
    labels = np.array([0] * 7 + [1] * 3)
    figure = plots.reliability_diagram({"target_test": (probabilities, labels)})
    drawn(figure)
    above, below = figure.axes
    (bar,) = above.patches
    assert bar.get_height() == pytest.approx(0.7)
    assert bar.get_x() < 0.9 < bar.get_x() + bar.get_width() * 1.1
    assert sum(patch.get_height() for patch in below.patches) == 10
    assert "Target test: calibration error 20.0 %" in texts(figure)


def domains(gap: float, examples: int = 30) -> Domains:
    generator = np.random.default_rng(0)
    labels = np.arange(examples) % 4
    source = generator.normal(size=(examples, 8))
    target = generator.normal(size=(examples, 8)) + gap
    return Domains(source, labels, target, labels)


def test_feature_map_draws_every_example_in_both_ways() -> None:
    figure = plots.feature_map({"before": domains(5.0), "after": domains(0.0)}, CLASSES_LONG)
    drawn(figure)
    assert [len(c.get_offsets()) for axes in figure.axes for c in axes.collections] == [30] * 8
    assert {"Before", "After", "source", "target"} <= set(texts(figure))


def test_the_same_seed_gives_the_same_embedding() -> None:
    features = np.concatenate([domains(1.0).source, domains(1.0).target])
    np.testing.assert_array_equal(embed(features, seed=0), embed(features, seed=0))
    assert embed(features, seed=0).min() == 0 and embed(features, seed=0).max() <= 1


def test_embedding_keeps_clusters_apart() -> None:
    features = np.concatenate([np.zeros((20, 80)), np.ones((20, 80))])
    features += np.random.default_rng(0).normal(size=features.shape) * 0.01
    placed = embed(features, seed=0)
    between = np.linalg.norm(placed[:20].mean(0) - placed[20:].mean(0))
    assert between > 2 * max(placed[:20].std(0).max(), placed[20:].std(0).max())


def test_mixing_is_none_for_domains_apart_and_half_for_one_distribution() -> None:
    apart, same = domains(50.0), domains(0.0, examples=400)
    assert mixing(apart.source, apart.target) == 0.0
    assert mixing(same.source, same.target) == pytest.approx(0.5, abs=0.03)


def test_a_thousand_points_at_most_as_many_of_each_domain() -> None:
    many = Domains(np.zeros((900, 2)), np.arange(900), np.ones((700, 2)), np.arange(700))
    few = _thin(many, seed=0)
    assert len(few.source) == len(few.target) == 500
    assert len(np.unique(few.source_labels)) == 500
    same = _thin(many._replace(target=many.target[:20], target_labels=np.arange(20)), seed=0)
    assert len(same.source) == len(same.target) == 20


def test_the_worst_mistakes_come_first() -> None:
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    labels = np.array([1, 1, 1, 1])
    images = np.stack([np.full((4, 4, 3), 60 * k, np.uint8) for k in range(4)])
    figure = plots.example_grid(images, probabilities, labels, ("cat", "dog"), wrong=2)
    drawn(figure)
    shown = [int(axes.images[0].get_array().max()) for axes in figure.axes if axes.images]
    assert shown == [60, 180, 120]
    titles = [axes.get_title("center") for axes in figure.axes if axes.images]
    assert titles == ["cat 90 %", "cat 70 %", "dog 80 %"]
    said = texts(figure)
    assert "The worst mistakes (of 3)" in said and said.count("is dog") == 2


def test_two_mistakes_of_a_kind_are_shown_before_others_get_their_turn() -> None:
    sure = np.array([0.9, 0.8, 0.7, 0.6])
    probabilities = np.stack([sure, 1 - sure, np.zeros(4)], axis=1)
    labels = np.array([1, 1, 1, 2])
    images = np.stack([np.full((4, 4, 3), 60 * k, np.uint8) for k in range(4)])
    figure = plots.example_grid(images, probabilities, labels, ("cat", "dog", "cow"))
    drawn(figure)
    shown = [int(axes.images[0].get_array().max()) for axes in figure.axes if axes.images]
    assert shown == [0, 60, 180, 120]


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3)])
def test_grey_and_colour_images_are_shown(shape: tuple[int, ...]) -> None:
    images = np.zeros((20, *shape), np.uint8)
    figure = plots.example_grid(images, *predicted(20), CLASSES_LONG)
    drawn(figure)
    shown = [image.get_array().shape for axes in figure.axes for image in axes.images]
    assert shown and {size[:2] for size in shown} == {(8, 8)}


def test_a_perfect_model_has_no_mistakes_to_show() -> None:
    labels = np.arange(8) % 4
    figure = plots.example_grid(np.zeros((8, 4, 4, 1)), np.eye(4)[labels], labels, CLASSES_LONG)
    drawn(figure)
    assert not any("mistakes" in text for text in texts(figure))


def test_the_way_from_start_to_end_is_drawn_with_its_intervals() -> None:
    def point(fraction: float, value: float) -> dict:
        accuracy = {"value": value, "low": value - 0.1, "high": value + 0.1}
        return {"fraction": fraction, "target_test": {"accuracy": accuracy}}

    figure = plots.interpolation_curve([point(0.0, 0.5), point(0.4, 0.8), point(1.0, 0.6)])
    drawn(figure)
    (axes,) = figure.axes
    fractions, values = axes.lines[0].get_data()
    np.testing.assert_allclose(fractions, [0.0, 0.4, 1.0])
    np.testing.assert_allclose(values, [0.5, 0.8, 0.6])
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(0.4), pytest.approx(0.9))
    assert "target test 60.0 %" in texts(figure)


def test_accuracy_by_shots_draws_mean_and_deviation() -> None:
    figure = plots.accuracy_by_shots(
        {"probe": {1: [0.4, 0.6], 20: [0.9]}, "from_scratch": {1: [0.2]}}
    )
    drawn(figure)
    axes = figure.axes[0]
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_ydata(), float), [0.5, 0.9])
    bars = next(c for c in axes.collections if isinstance(c, LineCollection))
    deviation = np.std([0.4, 0.6], ddof=1)
    ends = [float(y) for _, y in bars.get_segments()[0]]
    np.testing.assert_allclose(ends, [0.5 - deviation, 0.5 + deviation])
    assert {"probe", "from scratch"} <= set(texts(figure))


def test_method_comparison_names_the_oracle_and_draws_the_baselines_mean() -> None:
    figure = plots.method_comparison(
        {"A → B": {"dann": [0.6, 0.62], "supervised": [0.7]}, "B → A": {"supervised": [0.5]}},
        baseline="dann",
        oracles=["supervised"],
    )
    drawn(figure)
    upright = [
        [line.get_xdata()[0] for line in axes.lines if list(line.get_ydata()) == [0, 1]]
        for axes in figure.axes
    ]
    assert upright == [[pytest.approx(0.61)], []]
    assert {"supervised (oracle)", "dann", "A → B", "B → A"} <= set(texts(figure))
    assert "61.0 ± 1.4" in texts(figure) and "70.0" in texts(figure)


@pytest.mark.parametrize("ends", [(0.99, 0.98, 0.99), (0.0, 0.01, 0.0), (0.5, 0.5, 0.1)])
def test_names_at_the_ends_of_lines_stay_apart_and_inside(ends: tuple[float, ...]) -> None:
    axes = new_figure(5, 4).subplots()
    axes.set_ylim(0, 1)
    label_ends(axes, [(0, y, str(k), "k") for k, y in enumerate(ends)], gap=0.1)
    ordered = sorted(axes.texts, key=lambda text: text.xy[1])
    heights = [text.xy[1] for text in ordered]
    assert min(np.diff(heights)) >= 0.1 - 1e-9 and heights[-1] <= 1 and heights[0] >= 0
    assert [int(text.get_text()) for text in ordered] == sorted(range(3), key=lambda k: ends[k])


def test_dollar_signs_in_names_are_no_formula() -> None:
    figure = plots.confusion_matrices({"a": predicted()}, CLASSES_LONG)
    named = [text for text in figure.findobj(Text) if text.get_text() == "$5 $6"]
    assert named and not any(text.get_parse_math() for text in named)


def test_the_users_settings_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    plots.reliability_diagram({"a": predicted()})
    assert dict(matplotlib.rcParams) == before


def test_colours_differ() -> None:
    assert len(set(CLASSES)) == len(CLASSES) and len(set(SERIES)) == len(SERIES)


def test_curves_of_probes_mark_the_least_error() -> None:
    strengths = np.array([1.0, 0.1, 0.01])
    curve = plots.Curve(
        "strength", strengths, np.array([0.9, 0.2, 0.4]), "loss", np.array([0.1, 0.8, 0.9])
    )
    above, below = plots.probe_curves({"ridge": curve}).axes
    assert above.get_title(loc="left") == "ridge"
    for axes, heights in ((above, curve.errors), (below, curve.accuracies)):
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), heights)
        assert axes.collections[0].get_offsets()[0].tolist() == [0.1, heights[1]]


def test_layer_curves_have_a_line_for_each_probe_over_the_names_of_layers() -> None:
    heights = {"ridge": [0.5, 0.7], "nearest": [0.4, 0.6]}
    (axes,) = plots.layer_curves(["stage1", "features"], heights).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["stage1", "features"]
    for line, expected in zip(axes.lines, heights.values(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), expected)
