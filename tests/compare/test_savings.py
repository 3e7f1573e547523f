"""Labels needed beside a baseline: intervals, tests, words."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tfrecal.compare import savings, verdicts

BOUGHT = np.arange(0, 1001, 100)


def curve(strategy, values, seed=0, draw=0, bought=BOUGHT, scenario="s",
          metric="rmse"):
    return pd.DataFrame({
        "scenario": scenario, "strategy": strategy, "seed": seed,
        "draw": draw, "round": np.arange(len(values)),
        "labels": np.asarray(bought) + 50, "bought": bought,
        "cost": np.asarray(bought, float), "seconds": 1.0,
        "acquire_seconds": 0.1, metric: values})


def straight(speed, noise=0.0, seeds=10, strategy="random", **options):
    """RMSE that falls from 2 by 0.001 x speed a label; noise by seed."""
    rng = np.random.default_rng(5)
    return [curve(strategy, 2 - 0.001 * speed * BOUGHT
                  + noise * rng.normal(size=len(BOUGHT)), seed, **options)
            for seed in range(seeds)]


def compared(*curves, **options):
    return savings.compare(pd.concat([c for many in curves for c in many]),
                           **options)


def row(table, at=1.0, strategy="x"):
    return table[(table["at"] == at)
                 & (table["strategy"] == strategy)].iloc[0]


@pytest.mark.parametrize("at", [0.4, 1.0])
def test_twice_as_fast_needs_half_of_the_labels(at):
    found = row(compared(straight(1), straight(2, strategy="x")), at)
    assert found.labels == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5) == found.high
    assert found.reached and found.better
    # The mean of -0.001 b over b in [0, at * 1000].
    assert found.area == pytest.approx(-0.5 * at)
    assert found.verdict == "needs 50% of random's labels [50%, 50%]"


def test_a_metric_that_rises_is_read_the_other_way():
    def rising(speed, strategy):
        return [curve(strategy, 0.0001 * speed * BOUGHT, seed,
                      metric="ndcg@10") for seed in range(6)]
    table = compared(rising(1, "random"), rising(4, "x"), rising(0.5, "y"))
    assert row(table).labels == pytest.approx(0.25)
    assert row(table).area > 0 and row(table).better
    assert not row(table, strategy="y").better


def test_between_knots_the_quality_is_interpolated():
    steep = np.where(BOUGHT < 300, 2.0, 1.0)  # reaches 1.6 at 200 + 40
    found = row(compared(
        straight(1, seeds=2), [curve("x", steep, s) for s in (0, 1)]), 0.4)
    assert found.labels == pytest.approx(240 / 400)


def test_the_baseline_beside_itself_needs_all_labels_even_where_it_dips():
    # The best is at 600 of 1,000; a running best of one side only would
    # call the same curve better than itself.
    dip = np.array([2, 1.8, 1.6, 1.5, 1.4, 1.3, 1.2, 1.4, 1.3, 1.5, 1.4])
    found = row(compared([curve(name, dip, s) for s in range(6)
                          for name in ("random", "x")]))
    assert found.labels == pytest.approx(1) and found.reached
    assert found.p == 1 and found.area == 0
    assert "no significant difference" in found.verdict \
        or "too few" in found.verdict


def test_out_of_reach_turns_the_question_round():
    half = row(compared(straight(1), straight(0.5, strategy="x")))
    assert not half.reached and not half.better
    # As good at its end as random at half of its budget.
    assert half.labels == pytest.approx(2)
    assert "worse than random" in half.verdict
    never = row(compared(straight(1), straight(-1, strategy="x")))
    assert never.labels == savings.MOST and not never.reached


def test_a_baseline_that_improves_nothing_gives_no_ratio():
    found = row(compared(straight(-1), straight(1, strategy="x")))
    assert np.isnan([found.labels, found.low, found.high]).all()
    assert found.better and "nan" not in found.verdict


def test_draws_of_a_seed_are_averaged_before_anything_else():
    twice = [curve("random", 2 - 0.001 * BOUGHT * speed, seed, draw)
             for seed in range(6) for draw, speed in ((0, 0.5), (1, 1.5))]
    found = row(compared(twice, straight(2, seeds=6, strategy="x")))
    assert found.labels == pytest.approx(0.5)
    assert found.seeds == 6


def test_the_bootstrap_resamples_seeds_in_pairs():
    # Whatever a seed does to random it does to x, at twice the speed: the
    # ratio is certain though the curves differ a lot between seeds.
    speeds = np.linspace(0.5, 1.5, 8)
    both = [curve(name, 2 - 0.001 * k * v * BOUGHT, seed)
            for seed, v in enumerate(speeds)
            for name, k in (("random", 1), ("x", 2))]
    found = row(savings.compare(pd.concat(both)))
    assert found.low == pytest.approx(0.5) == found.high


def test_the_bootstrap_is_that_of_a_slow_loop():
    base = straight(1, 0.2, seeds=7)
    own = straight(1.7, 0.2, seeds=7, strategy="x")
    rng = np.random.default_rng(11)
    for c in own:
        c["rmse"] += rng.normal(0, 0.1, len(c))
    found = row(compared(base, own, seed=3, resamples=200))
    draws = np.random.default_rng(3).multinomial(
        7, np.full(7, 1 / 7), size=200)

    def needed(values, quality):
        best = np.minimum.accumulate(values)
        for j, value in enumerate(best):
            if value <= quality + 1e-12:
                if not j:
                    return BOUGHT[0]
                part = (best[j - 1] - quality) / (best[j - 1] - value)
                return BOUGHT[j - 1] + part * (BOUGHT[j] - BOUGHT[j - 1])
        return None

    ratios, areas = [], []
    for counts in draws:
        b = sum(c["rmse"].to_numpy() * k for c, k in zip(base, counts)) / 7
        x = sum(c["rmse"].to_numpy() * k for c, k in zip(own, counts)) / 7
        ratios.append(needed(x, b.min()) / needed(b, b.min()))
        areas.append(np.trapezoid(x - b, BOUGHT) / 1000)
    np.testing.assert_allclose([found.low, found.high],
                               np.quantile(ratios, [0.025, 0.975]))
    np.testing.assert_allclose([found.area_low, found.area_high],
                               np.quantile(areas, [0.025, 0.975]))
    again = row(compared(base, own, seed=3, resamples=200))
    pd.testing.assert_series_equal(found, again)


def test_seeds_may_have_pools_of_different_sizes():
    def to(end):
        return np.linspace(0, end, 11)
    table = savings.compare(pd.concat(
        [curve(name, 2 - 0.001 * k * to(end), seed, bought=to(end))
         for seed, end in enumerate((800, 1000, 1300))
         for name, k in (("random", 1), ("x", 2))]))
    assert row(table).labels == pytest.approx(0.5)
    assert row(table).area == pytest.approx(-0.4)  # up to the shortest


def test_p_values_are_wilcoxons_with_holms_correction():
    base = straight(1, seeds=9)
    rng = np.random.default_rng(0)
    shifts = {name: rng.normal(mean, 0.05, 9)
              for name, mean in (("x", -0.1), ("y", 0.0), ("z", 0.06))}
    own = [[curve(name, base[s]["rmse"] + shift[s], s) for s in range(9)]
           for name, shift in shifts.items()]
    table = compared(base, *own, at=(1.0,))
    p = {name: stats.wilcoxon(shift).pvalue
         for name, shift in shifts.items()}
    running = 0.0
    for place, name in enumerate(sorted(p, key=p.get)):
        running = max(running, min((3 - place) * p[name], 1))
        found = row(table, strategy=name)
        assert found.p == pytest.approx(p[name])
        assert found.p_holm == pytest.approx(running)
        assert found.tests == 3


def test_holm_on_a_known_example():
    np.testing.assert_allclose(
        savings.holm(np.array([0.01, 0.04, 0.03, 0.005])),
        [0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("seeds, tests", [(5, 1), (6, 2), (8, 7), (9, 13)])
def test_too_few_seeds_is_where_no_p_can_be_significant(seeds, tests):
    others = [straight(2 + k, seeds=seeds, strategy=f"x{k}")
              for k in range(tests)]
    table = compared(straight(1, seeds=seeds), *others, at=(1.0,),
                     resamples=20)
    assert table["p_holm"].min() > 0.05
    assert table["verdict"].str.contains("too few seeds to tell").all()
    assert verdicts.seeds_needed(tests) == seeds + 1
    assert "Too few seeds" in verdicts.overall(table)


def test_one_seed_is_refused():
    with pytest.raises(ValueError, match="at least 2 seeds"):
        compared(straight(1, seeds=1), straight(2, seeds=1, strategy="x"))


def test_only_shared_seeds_count():
    found = row(compared(straight(1, seeds=8),
                         straight(2, seeds=6, strategy="x")))
    assert found.seeds == 6


def test_a_missing_baseline_is_refused():
    with pytest.raises(ValueError, match="target_matched"):
        compared(straight(1), straight(2, strategy="x"),
                 baseline="target_matched")
    with pytest.raises(ValueError, match="second strategy"):
        compared(straight(1))
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        compared(straight(1), straight(2, strategy="x"), at=(1.5,))


def test_no_difference_is_said_so():
    rng = np.random.default_rng(1)
    base = straight(1, seeds=10)
    own = [curve("x", c["rmse"] + rng.normal(0, 0.05), seed)
           for seed, c in enumerate(base)]
    table = compared(base, own, at=(1.0,))
    assert "no significant difference from random" in row(table).verdict
    assert "No strategy beats random here." in verdicts.overall(table)


def test_a_scenario_in_a_paragraph():
    curves = pd.concat(
        straight(1, 0.01) + straight(3, 0.01, strategy="vopt")
        + straight(2.5, 0.01, strategy="target_matched")
        + straight(0.5, 0.01, strategy="popularity"))
    table = pd.concat([savings.compare(curves, name, at=(1.0,))
                       for name in ("random", "target_matched")])
    text = verdicts.overall(table)
    assert text.startswith("vopt needs 3")
    assert "It needs 8" in text
    assert "of target-matched random's labels" in text
    assert "Worse than random: popularity." in text


def test_better_over_the_curve_is_not_sold_as_labels():
    # Ahead all the way, and level at the end: no label is saved there.
    ahead = 2 - 0.001 * BOUGHT - 0.1 * np.sin(np.pi * BOUGHT / 1000)
    found = row(compared(straight(1), [curve("x", ahead, s)
                                       for s in range(10)]))
    assert found.better and found.p_holm < 0.05
    assert "labels saved are not certain" in found.verdict


def test_metric_names_leave_the_book_keeping_out():
    assert savings.metric_names(curve("x", BOUGHT * 1.0)) == ["rmse"]
    assert savings.lower_is_better("val_rmse")
    assert savings.lower_is_better("log_loss")
    assert not savings.lower_is_better("ndcg@10")


def test_a_metric_without_a_common_number_of_labels_is_left_out():
    """Such as NDCG among cold users, where no cold user is left."""
    table = [c for many in (straight(1, seeds=2),
                            straight(2, seeds=2, strategy="x"))
             for c in many]
    first = np.arange(len(BOUGHT)) == 0
    for rows in table:
        rows["ndcg@10/cold_users"] = np.where(
            first == (rows["seed"] == 0), 0.5, np.nan)
    assert set(savings.compare(pd.concat(table))["metric"]) == {"rmse"}
