"""The report page of a comparison and of a run; its curves elsewhere."""
from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from tfrecal.report import asked as asked_tables
from tfrecal.report import lines, write_report, write_tensorboard
from tfrecal.report.page import metric_name
from tfrecal.report.results import Results

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
STRATEGIES = {"random": 1.0, "target_matched": 1.9, "vopt": 3.0,
              "core_set": 1.0, "popularity": 0.5}
CHROME = shutil.which("chromium") or shutil.which("google-chrome")


def write_comparison(folder, strategies=STRATEGIES, seeds=8,
                     scenarios=("segment", "standard"), rounds=5):
    """A folder as `tfrecal compare` writes it; VOpt wins on the segment."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({
        "data": "ml-100k", "scenarios": list(scenarios),
        "strategies": list(strategies), "seeds": list(range(seeds)),
        "primary": {"segment": "rmse_users"}}))
    bought = np.arange(rounds + 1) * 1000
    curves, asked, calibration, reasons = [], [], [], []
    for scenario in scenarios:
        for seed in range(seeds):
            level = rng.normal(0, 0.01)
            for name, speed in strategies.items():
                if scenario != "segment":
                    speed = min(speed, 1.0)
                for draw in (0, 1) if name == "random" else (0,):
                    progress = speed * bought / bought[-1]
                    noise = rng.normal(0, 0.002, (2, rounds + 1))
                    rmse = (0.92 + level + 0.18 * np.exp(-2 * progress))
                    curves.append(pd.DataFrame({
                        "scenario": scenario, "strategy": name,
                        "seed": seed, "draw": draw,
                        "round": np.arange(rounds + 1),
                        "labels": 1400 + bought, "bought": bought,
                        "cost": bought * (1.5 if name == "vopt" else 1.0),
                        "seconds": 4 + bought / 500.0,
                        "acquire_seconds": 0.2, "rmse": rmse + noise[0],
                        "rmse_users": rmse + 0.03 + noise[1]}))
                n = 200
                popular = np.minimum(rng.geometric(
                    0.004 if name == "vopt" else 0.02, n), 300)
                asked.append(pd.DataFrame({
                    "scenario": scenario, "strategy": name, "seed": seed,
                    "round": np.repeat(np.arange(4), n // 4),
                    "user_id": [f"u{k}" for k in rng.integers(0, 90, n)],
                    "item_id": [f"i{k}" for k in popular],
                    "label": rng.integers(1, 6, n), "cost": 1.0,
                    "utility": rng.random(n),
                    "item_labels": rng.integers(0, 9, n)
                    if name == "vopt" else rng.poisson(25, n),
                    "user_labels": rng.integers(0, 40, n),
                    "category": rng.choice(
                        ["Drama", "Comedy", "$Sci$-Fi", EVIL], n)}))
                centre = (np.arange(10) + 0.5) / 10
                calibration.append(pd.DataFrame({
                    "scenario": scenario, "strategy": name, "seed": seed,
                    "labels": 9400, "bin": centre,
                    "observed": centre ** (1.4 if name == "random" else 1.1),
                    "count": np.arange(100, 0, -10)}))
                reasons += [{
                    "scenario": scenario, "strategy": name, "seed": seed,
                    "round": 0, "user_id": f"u{k}", "item_id": EVIL,
                    "utility": 0.3, "why": "the dropout passes disagree by "
                    f"0.8 of a label {EVIL}"} for k in range(2)]
    for name, tables in (("curves", curves), ("asked", asked),
                         ("calibration", calibration)):
        pd.concat(tables, ignore_index=True).to_parquet(
            folder / f"{name}.parquet")
    (folder / "explanations.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in reasons))
    return folder


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return write_comparison(tmp_path_factory.mktemp("comparisons") / EVIL
                            .replace("/", "_"))


@pytest.fixture(scope="module")
def page(comparison):
    path = comparison.parent / "report.html"
    write_report(comparison, path)
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Start tags with attributes, ids, and text outside style sheets."""

    VOID = {"meta", "link", "input", "br", "img", "path", "circle", "use",
            "rect"}

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def values(self, name):
        return [attrs[name] for _, attrs in self.tags if name in attrs]


def test_the_page_says_who_won_and_who_did_not(page):
    found = Tags(page)
    assert not found.open  # every element is closed
    text = " ".join(found.text.split())
    assert re.search(r"\d+%of random's labels, vopt", text)
    assert "judged by RMSE by users" in text
    assert re.search(r"It needs \d+% of target-matched random's", text)
    assert "No strategy beats random here." in text
    assert "Worse than random: popularity." in text
    assert "no significant difference from random" in text
    assert "because the dropout passes disagree by 0.8 of a label" in text


def test_the_page_stands_alone(page):
    found = Tags(page)
    for name in ("src", "href", "xlink:href", "action", "data"):
        for value in found.values(name):
            assert value.startswith(("#", "data:")), value
    assert "@import" not in page and not re.search(r"url\((?!#)", page)
    assert not any(tag in ("script", "img", "iframe")
                   for tag, _ in found.tags)
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    links = [v[1:] for name in ("href", "xlink:href")
             for v in found.values(name) if v.startswith("#")]
    assert set(links) <= set(ids)
    assert {i for i in re.findall(r"url\(#([^)]+)\)", page)} <= set(ids)


def test_foreign_text_is_shown_as_text(page):
    found = Tags(page)
    assert found.text.count(EVIL) > 5
    assert not any(name.startswith("on") for _, attrs in found.tags
                   for name in attrs)
    assert "$Sci$-Fi" in found.text


def test_figures_have_words_and_tables_have_headers(page):
    found = Tags(page)
    images = [attrs for tag, attrs in found.tags if tag == "svg"
              and attrs.get("role") == "img"]
    # Two scenarios: two metrics over three axes, and calibration.
    assert len(images) == 2 * (6 + 1)
    assert all("At the end" in a["aria-label"]
               or "calibration error" in a["aria-label"] for a in images)
    assert all("scope" in attrs for tag, attrs in found.tags if tag == "th")
    assert "#0" not in re.sub(r"href=\"[^\"]*|url\([^)]*", "", page) \
        .split("</style>")[1]  # every colour is one of the page's


def test_the_same_folder_gives_the_same_bytes(tmp_path):
    folder = write_comparison(
        tmp_path / "c", {"random": 1.0, "vopt": 2.0}, seeds=3, rounds=2,
        scenarios=("segment",))
    pages = []
    for name in ("one.html", "two.html"):
        write_report(folder, tmp_path / name)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_one_seed_has_curves_and_no_verdict(tmp_path):
    folder = write_comparison(tmp_path / "c", seeds=1, rounds=2,
                              scenarios=("standard",))
    (folder / "asked.parquet").unlink()
    (folder / "calibration.parquet").unlink()
    (folder / "explanations.jsonl").unlink()
    write_report(folder, tmp_path / "page.html")
    text = Tags((tmp_path / "page.html").read_text("utf-8")).text
    assert "No statistics" in text
    assert "vopt in standard shares fewer than 2 seeds with random" in text
    assert "What was asked" not in text


def write_run(folder):
    """The files of a run of two rounds, by hand."""
    (folder / "pool").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(
        {"data": "shop", "strategy": "bald", "seed": 3}))
    (folder / "state.json").write_text(json.dumps({"pool": "pool/1.npz"}))
    pd.DataFrame({
        "epoch": [0, 1, 2], "rows": [3, 5, 7], "cost": [0.0, 2.0, 4.0],
        "acquired_cost": [2.0, 2.0, 0.0],
        "train_seconds": [2.0, 1.0, 1.0], "acquire_seconds": [1.0, 1.0, None],
        "val_rmse": [1.0, 0.9, 0.8], "val_ndcg@10": [0.1, 0.2, 0.3],
        "part": "validation",
    }).to_csv(folder / "history.csv", index=False)
    (folder / "test.json").write_text(json.dumps(
        {"rows": 9, "users": 2, "test_ndcg@10": 0.25, "test_rmse": 0.85}))
    # Items 1, 1, 2 are labelled from the start; then 1 and 3, then 3 and 3.
    np.savez(folder / "pool" / "1.npz",
             item=np.array([1, 1, 2, 3, 1, 3, 3]),
             state=np.full(7, 2, np.int8),
             ticket=np.array([-1, -1, -1, 1, 0, 2, 3]))
    pd.DataFrame({
        "ticket": range(4), "round": [0, 0, 1, 1],
        "user_id": list("abcd"), "item_id": ["i1", "i3", "i3", "i3"],
        "strategy": "bald", "utility": 0.1, "state": "labelled",
        "label": 4.0, "cost": 1.0}).to_parquet(
            folder / "acquisitions.parquet")
    return folder


def test_a_run_is_read_as_a_comparison_of_one(tmp_path):
    results = Results.of_folder(write_run(tmp_path / "run"))
    curves = results.curves
    assert list(curves["bought"]) == [0, 2, 4]
    assert list(curves["cost"]) == [0, 2, 4]  # paid for what is trained on
    assert list(curves["seconds"]) == [3, 5, 6]
    assert list(results.asked["item_labels"]) == [2, 0, 1, 1]
    write_report(tmp_path / "run", tmp_path / "page.html")
    text = Tags((tmp_path / "page.html").read_text("utf-8")).text
    assert "bald" in text and "No statistics" in text
    assert "curves are ofthe validation part" in text
    assert "test part, at the endRMSE 0.8500, NDCG@10 0.2500" in text


def test_a_run_of_an_earlier_version_is_of_the_test_part(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "test.json").unlink()
    pd.read_csv(folder / "history.csv").drop(columns="part").to_csv(
        folder / "history.csv", index=False)
    write_report(folder, tmp_path / "page.html")
    text = Tags((tmp_path / "page.html").read_text("utf-8")).text
    assert "curves are ofthe test part" in text and "at the end" not in text


def test_a_folder_with_neither_is_refused(tmp_path):
    with pytest.raises(ValueError, match="tfrecal compare"):
        write_report(tmp_path, tmp_path / "page.html")


def test_mean_lines_average_draws_then_seeds():
    rows = pd.DataFrame({
        "round": [0, 0, 0, 1, 1, 1], "seed": [0, 0, 1, 0, 0, 1],
        "draw": [0, 1, 0, 0, 1, 0], "bought": [0, 0, 0, 10, 10, 12],
        "rmse": [2.0, 4.0, 5.0, 1.0, 1.0, 1.0]})
    line = lines.mean_line(rows, "bought", "rmse")
    np.testing.assert_allclose(line.x, [0, 11])
    np.testing.assert_allclose(line.y, [4, 1])  # not (2 + 4 + 5) / 3
    # Student's t with 1 degree of freedom is 12.706 at 97.5%.
    np.testing.assert_allclose(line.high[0] - 4, 12.706, rtol=1e-4)
    assert lines.mean_line(rows.assign(rmse=np.nan), "bought", "rmse") is None


def test_calibration_is_weighted_by_counts():
    rows = pd.DataFrame({"bin": [0.12, 0.18, 0.9], "count": [1, 3, 4],
                         "observed": [0.0, 0.4, 0.8]})
    line = lines.calibration_line(rows)
    np.testing.assert_allclose(line.x, [0.165, 0.9])
    np.testing.assert_allclose(line.y, [0.3, 0.8])
    assert lines.calibration_error(rows) == pytest.approx(
        (4 * 0.135 + 4 * 0.1) / 8)


def test_what_was_asked_is_counted_a_run():
    asked = pd.DataFrame({
        "strategy": "x", "seed": [0, 0, 0, 1], "user_id": list("aabc"),
        "item_id": list("iiji"), "label": [1, 2, 3, 4],
        "item_labels": [0, 2, 9, 30], "category": ["k", "k", None, "l"]})
    reach = asked_tables.coverage(asked).loc["x"]
    assert (reach["labels"], reach["users"], reach["items"]) == (2, 1.5, 1.5)
    np.testing.assert_allclose(asked_tables.coldness(asked).loc["x"],
                               [0.25, 0.25, 0.25, 0, 0.25])
    assert asked_tables.categories(asked, most=1).loc["x"].to_dict() == {
        "k": 0.5, "2 more": 0.5}
    assert asked_tables.favourites(asked, 1) == {"x": [("i", 1.5)]}


def test_metrics_have_the_names_people_use():
    assert [metric_name(m) for m in ("rmse_users", "ndcg@10", "log_loss")] \
        == ["RMSE by users", "NDCG@10", "log loss"]


def test_tensorboard_gets_the_mean_curves(comparison, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )
    from tensorboard.util import tensor_util

    write_tensorboard(comparison, tmp_path)
    assert len(list(tmp_path.glob("*/*/events*"))) == 2 * len(STRATEGIES)
    events = EventAccumulator(str(tmp_path / "segment" / "vopt")).Reload()
    found = {event.step: float(tensor_util.make_ndarray(event.tensor_proto))
             for event in events.Tensors("rmse")}
    curves = pd.read_parquet(comparison / "curves.parquet")
    wanted = curves[(curves["scenario"] == "segment")
                    & (curves["strategy"] == "vopt")].groupby(
                        "bought")["rmse"].mean()
    assert list(found) == list(wanted.index)
    np.testing.assert_allclose(list(found.values()), wanted, rtol=1e-6)


@pytest.mark.large
@pytest.mark.skipif(CHROME is None, reason="needs chromium or google-chrome")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_overflow_or_errors(
        page, width, tmp_path):
    # Headless windows have a least width; a frame has none. Details are
    # opened, and every tab is gone through.
    (tmp_path / "page.html").write_text(page.replace("<details", (
        "<details open")), encoding="utf-8")
    (tmp_path / "frame.html").write_text(f"""<!DOCTYPE html>
<iframe src="page.html" style="width:{width}px;height:900px;border:0">
</iframe><script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument, wide = [];
  for (const tab of page.querySelectorAll("input")) {{
    tab.checked = true;
    wide.push(page.scrollingElement.scrollWidth);
    const shown = [...tab.parentNode.querySelectorAll(".panel")].filter(
      panel => panel.offsetHeight > 100).length;
    if (shown != 1) console.error("panels shown: " + shown);
  }}
  document.title = "widest " + Math.max(...wide) + " of " + wide.length;
}};</script>""")
    done = subprocess.run(
        [CHROME, "--headless", "--no-sandbox", "--disable-gpu",
         "--allow-file-access-from-files", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=5000", "--dump-dom",
         str(tmp_path / "frame.html")],
        capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>widest (\d+) of (\d+)</title>", done.stdout)
    assert title, done.stderr[-2000:]
    assert int(title[1]) <= width and int(title[2]) == 6
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
