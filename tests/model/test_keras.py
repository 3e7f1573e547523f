"""`fit`, `evaluate`, `predict`, `compile`, `summary` as Keras users know."""
from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfrecal.data.interactions import Interactions
from tfrecal.model import inputs
from tfrecal.model.tasks import Rating, Retrieval
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.text.encoder import TextEncoder

FIT = {"verbose": 0}
RATING = {"embedding_dim": 4}


def made(shop, **options):
    model = TwoTower.from_interactions(shop, **{**RATING, **options})
    model.compile(learning_rate=0.01)
    return model


@pytest.fixture(scope="module")
def trained(shop):
    """A model after an epoch; no test trains it further."""
    model = made(shop)
    model.fit(Pool.from_interactions(shop, initial=1.0).sequence(64), **FIT)
    return model


def by_hand(model, sequence):
    """Losses of each batch, and rows, outside of Keras' loop."""
    losses = np.array([[float(loss) for loss in model._losses_of(
        sequence[number], False)] for number in range(len(sequence))])
    rows = [len(sequence[n]["label"]) for n in range(len(sequence))]
    means = np.average(losses, axis=0, weights=rows)
    return {"rating_loss": means[0], "retrieval_loss": means[1],
            "loss": means[0] + 0.3 * means[1]}


def test_losses_of_evaluate_are_means_over_rows(shop, trained):
    """By hand; the last batch has 20 rows, the others 96."""
    sequence = Pool.from_interactions(shop, initial=1.0).sequence(96)
    expected = by_hand(trained, sequence)
    found = trained.evaluate(sequence, return_dict=True, **FIT)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


def test_val_loss_is_a_mean_over_rows(shop):
    model = made(shop)
    pool = Pool.from_interactions(shop, initial=1.0)
    held_out = pool.sequence(96, seed=5)
    history = model.fit(pool.sequence(64), validation_data=held_out,
                        **FIT).history
    held_out.start(0)
    for name, value in by_hand(model, held_out).items():
        np.testing.assert_allclose(
            history[f"val_{name}"][0], value, rtol=1e-5)


def test_the_loss_of_an_epoch_is_a_mean_over_rows(shop):
    """Without a step and without penalties, that of the rows is known."""
    model = TwoTower.from_interactions(shop, tasks=[Rating(name="rating")],
                                       embedding_dim=4)
    for tower in (model.query_tower, model.candidate_tower):
        tower.rating_l2 = tower.retrieval_l2 = tower.bias_l2 = 0.0
        tower.id_dropout = tower.retrieval_id_dropout = 0.0
    model.compile(tf_keras.optimizers.SGD(0.0))
    sequence = Pool.from_interactions(shop, initial=1.0).sequence(480)
    losses = [float(model._losses_of(sequence[n], True)[0]) for n in (0, 1)]
    model.reset_metrics()
    history = model.fit(sequence, **FIT).history
    np.testing.assert_allclose(
        history["loss"][0], np.average(losses, weights=[480, 20]), rtol=1e-5)
    np.testing.assert_allclose(history["rating_loss"], history["loss"])


def test_the_pool_says_what_a_positive_is(shop):
    """Loss of `Retrieval` over the rows of label 5, of the pool's choice."""
    task, model = Retrieval(log_q=None), made(shop)
    batch = Pool.from_interactions(
        shop, initial=1.0, positive=5.0).sequence(200)[0]
    query, candidate = np.random.default_rng(0).normal(
        size=[2, 200, 3]).astype(np.float32)
    found = task(query, candidate, model._with_codes(batch))
    rows = np.flatnonzero(batch["label"] == 5)
    assert 0 < len(rows) < (batch["label"] >= 4).sum()
    item, score = batch["item_id"][rows], query[rows] @ candidate[rows].T
    own = np.eye(len(rows), dtype=bool)
    score[(item[:, None] == item) & ~own] = -np.inf
    np.testing.assert_allclose(found, np.mean(
        np.log(np.exp(score).sum(1)) - np.diag(score)), rtol=1e-4)


def test_without_a_pool_the_scale_says_what_a_positive_is(shop):
    label = tf.constant([1.0, 3.9, 4.0, 5.0])
    batch = {"user_id": np.ones(4, np.int32), "item_id": np.ones(4, np.int32),
             "label": label}
    assert made(shop)._with_codes(batch)["positive"].numpy().tolist() == [
        False, False, True, True]
    model = made(shop, tasks=[Retrieval(name="retrieval")])
    with pytest.raises(ValueError, match="which rows are positives"):
        model.evaluate(shop, **FIT)


def test_a_task_no_longer_says_what_a_positive_is():
    with pytest.raises(TypeError, match=r"Pool.from_interactions\(data, pos"):
        Retrieval(positive=4.0)
    config = {**Retrieval(name="r", temperature=0.5).get_config(),
              "positive": 4.0}  # as it was saved before
    assert Retrieval.from_config(config).temperature == 0.5


@pytest.mark.parametrize("options, match", [
    ({"loss": "mse"}, "Losses come from the tasks"),
    ({"loss_weights": [1, 2]}, "Each task holds its weight"),
    ({"jit_compile": True}, "XLA"),
    ({"pss_evaluation_shards": 2}, "Parameter servers"),
    ({"optimizer": "adam", "learning_rate": 0.1}, "own learning rate"),
    ({"encoder_optimizer": "sgd", "encoder_learning_rate": 0.1},
     "own learning rate"),
    ({"encoder_optimizer": "mse"}, "second argument")])
def test_compile_refuses_what_it_would_ignore(shop, options, match):
    model = TwoTower.from_interactions(shop, **RATING)
    with pytest.raises(ValueError, match=match):
        model.compile(**options)


def test_compile_knows_its_arguments(shop):
    model = TwoTower.from_interactions(shop, **RATING)
    with pytest.raises(TypeError, match="target_tensors"):
        model.compile(target_tensors=[1])
    model.compile(loss=None, jit_compile=False)  # as Keras' own defaults


def test_metrics_need_predicted_labels(shop):
    model = TwoTower.from_interactions(
        shop, tasks=[Retrieval(name="retrieval")])
    with pytest.raises(ValueError, match="needs a `Rating` task"):
        model.compile(metrics=["mae"])
    model.compile()
    with pytest.raises(ValueError, match="needs a `Rating` task"):
        model.predict(shop, **FIT)


def test_metrics_compare_labels_with_predictions(shop):
    model = TwoTower.from_interactions(shop, **RATING)
    weight = np.random.default_rng(0).uniform(0, 2, len(shop))
    model.compile(metrics=["mae"], weighted_metrics=[
        tf_keras.metrics.MeanSquaredError("wmse")])
    history = model.fit(shop, validation_data=(shop, None, weight),
                        **FIT).history
    error = model.predict(shop, **FIT) - shop.label
    np.testing.assert_allclose(
        history["val_mae"][0], np.abs(error).mean(), rtol=1e-5)
    np.testing.assert_allclose(history["val_wmse"][0], np.average(
        error ** 2, weights=weight), rtol=1e-5)
    assert history["mae"][0] > 0


def test_several_steps_an_execution_and_eager_steps_train_the_same(shop):
    weights = []
    for options in ({}, {"steps_per_execution": 3}, {"run_eagerly": True}):
        model = TwoTower.from_interactions(shop, **RATING)
        model.compile(**options)
        model.fit(Pool.from_interactions(shop, initial=1.0).sequence(128),
                  **FIT)
        weights.append(model.candidate_tower.id_table.numpy())
    for other in weights[1:]:
        np.testing.assert_allclose(weights[0], other, atol=1e-6)


@pytest.mark.parametrize("options, match", [
    ({"validation_split": 0.1}, "validation_data"),
    ({"class_weight": {0: 1.0}}, "sample_weight"),
    ({"shuffle": False}, "shuffles its rows")])
def test_fit_refuses_what_it_would_ignore(shop, trained, options, match):
    with pytest.raises(ValueError, match=match):
        trained.fit(shop, **options, **FIT)


def numbered(shop):
    """The shop's log with whole numbers for ids, and a model of it."""
    frame = shop.frame.assign(**{
        name: shop.frame[name].str[1:].astype(int)
        for name in ("user_id", "item_id")})
    return frame, Interactions.from_frame(frame, scale=(1, 5))


def forms(frame):
    """The same rows, in all that `evaluate` takes."""
    columns = {name: frame[name].to_numpy()
               for name in ("user_id", "item_id", "label")}
    ids = {name: columns[name] for name in ("user_id", "item_id")}
    data = tf.data.Dataset.from_tensor_slices
    return {
        "frame": (frame,), "floats": (frame.astype({"user_id": float}),),
        "indexed": (frame.set_index(frame.index + 7),),
        "lists": ({k: v.tolist() for k, v in columns.items()},),
        "series": (dict(frame.items()),),
        "tensors": ({k: tf.constant(v) for k, v in columns.items()},),
        "texts": ({**columns, "user_id": columns["user_id"].astype(str)},),
        "x, y": (frame.drop(columns="label"), columns["label"]),
        "y [n, 1]": (ids, columns["label"][:, None]),
        "dicts": (data(columns).batch(200),),
        "pairs": (data((ids, columns["label"])).batch(200),),
        "triples": (data((ids, columns["label"], np.ones(
            len(frame)))).batch(200),)}


FORMS = ["frame", "floats", "indexed", "lists", "series", "tensors", "texts",
         "x, y", "y [n, 1]", "dicts", "pairs", "triples"]


@pytest.fixture(scope="module")
def numbers(shop):
    """`(frame, interactions, trained model, its figures, predictions)`."""
    frame, data = numbered(shop)
    model = made(data)
    model.fit(data, epochs=2, **FIT)
    return (frame, data, model, model.evaluate(
        data, batch_size=200, return_dict=True, **FIT), model(
            {"user_id": data.user_code, "item_id": data.item_code}).numpy())


@pytest.mark.parametrize("form", FORMS)
def test_evaluate_and_predict_take_what_keras_users_have(numbers, form):
    frame, _, model, figures, predicted = numbers
    given = forms(frame)[form]
    size = {} if isinstance(given[0], tf.data.Dataset) else {
        "batch_size": 200}
    found = model.evaluate(*given, return_dict=True, **size, **FIT)
    assert found == pytest.approx(figures, rel=1e-5)
    labels = model.predict(given[0], **FIT)
    assert labels.dtype == np.float32 and labels.shape == (len(frame),)
    np.testing.assert_allclose(labels, predicted, atol=1e-5)


@pytest.mark.parametrize("form", FORMS[:9])
def test_fit_on_a_table_trains_on_its_pool(numbers, form):
    """The same batches, with histories, counts and shares."""
    frame, data, model, *_ = numbers
    found = inputs.for_training(model, *forms(frame)[form], batch_size=128)
    expected = Pool.from_interactions(data, initial=1.0).sequence(128)
    assert len(found) == len(expected) == 4
    for number in range(4):
        for one, two in zip(*(map(np.asarray, tf.nest.flatten(
                batches[number], expand_composites=True))
                              for batches in (found, expected))):
            np.testing.assert_array_equal(one, two)


def test_fit_on_a_data_set(numbers):
    """It learns, though without histories; one trace for all batches."""
    frame, data, *_ = numbers
    model = made(data)
    traced, step = [], model.train_step
    model.train_step = lambda inputs: traced.append(1) or step(inputs)
    history = model.fit(*forms(frame)["pairs"], epochs=5,
                        validation_data=frame, **FIT).history
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert history["rows"] == [len(frame)] * 5 and len(traced) == 1


def test_weights_of_a_table_count(shop, trained):
    weight = np.random.default_rng(0).uniform(0, 2, len(shop)).astype("f4")
    expected = Pool.from_interactions(shop, initial=1.0).sequence(
        64, row_weights=weight)
    for given in ((shop.frame.assign(weight=weight),),
                  (shop, None, weight)):
        found = inputs.for_training(trained, *given, batch_size=64)
        np.testing.assert_array_equal(
            found[3]["weight"], expected[3]["weight"])


def test_a_batch_of_rows_without_weight_has_no_loss(shop, trained):
    found = trained.evaluate(
        shop, None, 64, 0, np.arange(len(shop)) >= 100, return_dict=True)
    assert np.isfinite(list(found.values())).all()


def test_log_q_of_a_log_is_that_of_its_pool(numbers):
    frame, data, model, *_ = numbers
    expected = Pool.from_interactions(data, initial=1.0).natural_log_q()
    for given in (frame, forms(frame)["dicts"][0]):
        batch = next(iter(inputs.for_evaluation(model, given)))
        np.testing.assert_allclose(
            batch["log_q"], expected[batch["item_id"]], rtol=1e-6)


def test_predict_reads_histories_and_columns(shop, trained):
    """Of a user and an item that it does not know, in tables and sets."""
    row = shop.items.iloc[0]
    columns = {"user_id": ["new", "new"], "item_id": ["new", "i05"],
               "history": [["i01", "i02"], []],
               **{name: [row[name]] * 2
                  for name in trained.candidate_tower.categories.columns}}
    given = {"user_id": np.array(["new"]), "item_id": np.array(["new"]),
             "history": tf.ragged.constant([["i01", "i02"]]),
             **{name: np.array([row[name]]) for name
                in trained.candidate_tower.categories.columns}}
    found = trained.predict(columns, **FIT)
    np.testing.assert_allclose(found[0], trained(given)[0], rtol=1e-5)
    columns["history"] = tf.ragged.constant(columns["history"], dtype=tf.string)
    data = tf.data.Dataset.from_tensor_slices(columns).batch(2)
    np.testing.assert_allclose(found, trained.predict(data, **FIT))
    bare = {name: columns[name] for name in ("user_id", "item_id")}
    assert found[0] != trained.predict(bare, **FIT)[0]


def test_unknown_ids_are_predicted(trained):
    found = trained.predict({"user_id": ["u01", "?"],
                             "item_id": ["?", None]}, **FIT)
    assert np.isfinite(found).all()


def sets(**columns):
    return tf.data.Dataset.from_tensor_slices(columns)


ID = {"user_id": ["u01"], "item_id": ["i01"]}
BAD = {
    "array": (lambda: np.ones([3, 2]), TypeError, "a DataFrame, a dict"),
    "missing": (lambda: {"user": ["u01"], **{k: ID[k] for k in ["item_id"]}},
                ValueError, r"without \['user_id'"),
    "no label": (lambda: dict(ID), ValueError, r"without \['label'\].* `y`"),
    "float ids": (lambda: {**ID, "user_id": [1.5], "label": [3]}, ValueError,
                  "`user_id` must hold strings or whole"),
    "lengths": (lambda: {**ID, "label": [3, 4]}, ValueError,
                "same number of rows"),
    "scalar": (lambda: {**ID, "label": 3}, ValueError, "Write a list"),
    "empty": (lambda: {k: [] for k in (*ID, "label")}, ValueError,
              "at least one row"),
    "off scale": (lambda: {**ID, "label": [9]}, ValueError,
                  "from 1 to 5.*label=9 in row 0"),
    "no number": (lambda: {**ID, "label": ["good"]}, ValueError, "label='g"),
    "weights": (lambda: {**ID, "label": [3], "weight": [-1.0]}, ValueError,
                "`weight` must hold finite"),
    "single": (lambda: sets(**ID, label=[3.0]), ValueError, r"`.batch\(1024"),
    "set of tuples": (lambda: tf.data.Dataset.from_tensors(
        (["u01"], ["i01"])), TypeError, "Name the columns"),
    "set of floats": (lambda: sets(**{**ID, "user_id": [1.0]}, label=[3.0])
                      .batch(1), ValueError, "dtype=float32"),
    "set without": (lambda: sets(**ID).batch(1), ValueError,
                    r"without \['label'\]"),
    "endless": (lambda: sets(**ID, label=[3.0]).batch(1).repeat(),
                ValueError, "without end"),
    "codes": (lambda: sets(**ID, label=[3.0], history_row=[0]).batch(1),
              ValueError, "pool.sequence")}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("verb", ["fit", "evaluate"])
def test_other_things_end_in_one_error(trained, name, verb):
    make, kind, match = BAD[name]
    with pytest.raises(kind, match=f"(?s){match}"):
        getattr(trained, verb)(make(), **FIT)


@pytest.mark.parametrize("name", [
    "array", "missing", "float ids", "lengths", "empty", "set of tuples",
    "set of floats"])
def test_predict_refuses_them_too(trained, name):
    make, kind, match = BAD[name]
    with pytest.raises(kind, match=match):
        trained.predict(make(), **FIT)


def test_fit_takes_a_table_of_known_pairs_once(shop, trained):
    frame = shop.frame[["user_id", "item_id", "label"]]
    for wrong, match in (
            (frame.iloc[[0, 0]], "each pair once"),
            (frame.assign(user_id="new"), "the model's users"),
            (frame.assign(log_q=0.0), r"columns=\['log_q'\]")):
        with pytest.raises(ValueError, match=match):
            trained.fit(wrong, **FIT)
    with pytest.raises(ValueError, match="must be given once"):
        trained.fit(frame, frame["label"], **FIT)
    with pytest.raises(ValueError, match="one number a row"):
        trained.evaluate(frame.drop(columns="label"), [1.0, 2.0], **FIT)


class Batches(tf_keras.utils.Sequence):
    """A Sequence of a user's."""

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, number):
        return self.batch


def test_a_sequence_of_ones_own(shop, trained):
    batch = {name: shop.frame[name].to_numpy(
        str if name != "label" else np.float32)
             for name in ("user_id", "item_id", "label")}
    batch["log_q"] = np.zeros(len(shop), np.float32)
    figures = trained.evaluate(shop.frame.assign(log_q=0.0),
                               return_dict=True, **FIT)
    assert trained.evaluate(Batches(batch), return_dict=True, **FIT) \
        == pytest.approx(figures, rel=1e-5)
    with pytest.raises(ValueError, match="only the pool's holds codes"):
        trained.evaluate(Batches({**batch, "user_id": shop.user_code}))
    with pytest.raises(TypeError, match="a dict a batch"):
        trained.evaluate(Batches((batch, batch["label"])))


def test_a_loaded_model_says_how_to_go_on(shop, trained, tmp_path, caplog):
    trained.save(tmp_path / "model.keras")
    again = tf_keras.models.load_model(tmp_path / "model.keras")
    assert not caplog.records  # Keras warned that `compile` is custom
    for verb in ("fit", "evaluate"):
        with pytest.raises(RuntimeError, match=r"model.compile\(learning_ra"):
            getattr(again, verb)(shop)
    np.testing.assert_array_equal(
        trained.predict(shop, **FIT), again.predict(shop, **FIT))
    again.compile(learning_rate=0.01)
    again.fit(shop, **FIT)


def as_before_the_rooms(model, path, to):
    """Saves a model with the places, arguments and lists of before."""
    model.save(path)
    lists = {}
    for tower in (model.query_tower, model.candidate_tower):
        lists[type(tower).__name__] = {
            "ids": tower.ids, "texts": tower.texts, "category_rows":
            None if tower._rows is None else tower._rows.numpy().tolist()}
    lists["QueryTower"]["item_ids"] = model.query_tower.item_ids
    old = {"two_tower": "models", "categories": "categories",
           "towers": "towers", "tasks": "tasks", "encoder": "encoders"}

    def renamed(part):
        if isinstance(part, list):
            return [renamed(one) for one in part]
        if not isinstance(part, dict):
            return part
        part = {name: renamed(one) for name, one in part.items()}
        place = str(part.get("module")).rpartition(".")
        if place[0].startswith("tfrecal"):
            part["module"] = f"tfrecal.{old[place[2]]}"
        if part.get("registered_name") == "tfrecal>Retrieval":
            part["config"]["positive"] = 4.0
        if part.get("class_name") in lists:
            part["config"].update(lists[part["class_name"]])
        return part

    with zipfile.ZipFile(path) as source, zipfile.ZipFile(to, "w") as target:
        for name in source.namelist():
            if name.startswith("assets/"):
                continue
            data = source.read(name)
            if name == "config.json":
                config = renamed(json.loads(data))
                config["compile_config"] = {"optimizer": "adam"}
                data = json.dumps(config)
            target.writestr(name, data)


def test_a_file_of_before_the_rooms_is_loaded(
        shop, tiny_bert_folder, tmp_path):
    """Also by a process that has not imported the parts before."""
    model = TwoTower.from_interactions(shop, encoder=TextEncoder(
        str(tiny_bert_folder)), **RATING)
    as_before_the_rooms(
        model, tmp_path / "new.keras", tmp_path / "old.keras")
    assert b"tfrecal.models" in (tmp_path / "old.keras").read_bytes()
    again = tf_keras.models.load_model(tmp_path / "old.keras")
    np.testing.assert_array_equal(
        model.predict(shop, **FIT), again.predict(shop, **FIT))


@pytest.mark.large
def test_a_fresh_process_loads_a_file_of_before_the_rooms(
        shop, tiny_bert_folder, tmp_path):
    model = TwoTower.from_interactions(shop, encoder=TextEncoder(
        str(tiny_bert_folder)), **RATING)
    as_before_the_rooms(
        model, tmp_path / "new.keras", tmp_path / "old.keras")
    subprocess.run([sys.executable, "-c", (
        "import sys, tfrecal, tf_keras; "
        "tf_keras.models.load_model(sys.argv[1])"),
        str(tmp_path / "old.keras")], check=True)


def test_summary_is_true_before_the_first_fit(shop, tiny_bert_folder):
    encoder = TextEncoder(str(tiny_bert_folder), tuning="top_n", top_n=1)
    model = TwoTower.from_interactions(shop, encoder=encoder, **RATING)
    lines = []
    model.summary(print_fn=lines.append, show_trainable=True)
    table = {line.split()[0]: [int(number.replace(",", "")) for number
                               in line.split()[-2:]]
             for line in lines if "(" in line and "Layer" not in line
             and "Model" not in line}
    # Without those of the metrics, which Keras counts.
    total = sum(int(np.prod(weight.shape)) for weight in {
        id(weight): weight for layer in (
            *model.layers, encoder) for weight in layer.weights}.values())
    query = model.query_tower
    assert set(table) == {encoder.name, query.name,
                          model.candidate_tower.name, "rating", "retrieval",
                          "search"}
    assert sum(weights for weights, _ in table.values()) == total
    assert table["rating"] == [1, 1] and table["retrieval"] == [0, 0]
    d, users, items = 2 * 4, 1 + len(shop.users), 1 + len(shop.items)
    assert table[query.name][1] == users * (d + 1) + d * (
        items + query.categories.width + 2 * encoder.dim)
    assert f"Total params: {total:,}" in lines
    before = list(lines)
    lines.clear()
    model.compile()
    model.fit(shop, **FIT)
    model.summary(print_fn=lines.append, show_trainable=True)
    assert lines == before


def test_summary_refuses_what_it_would_ignore(trained):
    with pytest.raises(ValueError, match="`layer_range`"):
        trained.summary(layer_range=["a", "b"])


def test_repr_says_what_a_model_is_made_of(shop, tiny_bert_folder):
    model = TwoTower.from_interactions(shop, encoder=TextEncoder(
        str(tiny_bert_folder)), dropout=0.1, **RATING)
    assert "\n" not in repr(model)
    for part in ("TwoTower(", "<40 ids>", "<30 ids>", "embedding_dim=4",
                 str(tiny_bert_folder), "tuning='frozen'", "dropout=0.1",
                 "rating=1", "retrieval=0.3", "search=0.1"):
        assert part in repr(model), part
    assert repr(Rating(name="stars")).startswith("Rating('stars', weight=1.0")
