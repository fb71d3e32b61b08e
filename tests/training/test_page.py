"""The page of a run: what stands in it, when a browser loads it again, and that training never depends on it."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from linear_model import CONFIG, Images, LinearModel
from scenes import sample_of
from small_run import SMALL

from mrcnn_np.cli.main import main
from mrcnn_np.detections import Detections
from mrcnn_np.evaluate.coco import CocoEvaluator
from mrcnn_np.evaluate.split import SplitReport
from mrcnn_np.evaluate.voc import Evaluator
from mrcnn_np.objective import LOSSES
from mrcnn_np.training import page as page_module
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.loop import train
from mrcnn_np.training.page import CHARTS, Page
from mrcnn_np.training.run_folder import CHECKPOINT, FILES, METRICS, PAGE, read_steps

HOSTILE = '<script>alert("1")</script>&\'"'


class Reader(HTMLParser):
    """Reads a page: every tag with its attributes, and the text outside of the style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(self.texts)

    @property
    def refreshes(self):
        return any(a.get("http-equiv") == "refresh" for a in self.all("meta"))


def read(folder):
    return Reader((folder / PAGE).read_text(encoding="utf-8"))


def row(step, **more):
    return {"step": step, "loss": 5.0 / step, **dict.fromkeys(LOSSES, 1.0 / step), "learning_rate": 0.1} | more


def report(class_names, image_id="a", objects=1):
    boxes = [(8, 8, 30, 30), (34, 30, 60, 58)]
    sample = sample_of(boxes[:objects], shape=(64, 64), name=image_id)
    found = Detections(sample.gt_boxes[:1], np.ones(1, np.int64), np.array([0.75], np.float32), sample.gt_masks[:1])
    evaluations = {}
    for kind in ("box", "mask"):
        evaluator = Evaluator(class_names, iou_type=kind)
        evaluator.add(found, sample)
        evaluations[kind] = evaluator.result()
    return SplitReport(evaluations, [sample], [found], {f"broken{HOSTILE}": f"is cut short {HOSTILE}"}, ["a note"])


def test_it_shows_curves_classes_and_pictures_and_refreshes_until_it_is_finished(tmp_path):
    with Page(tmp_path, ("background", "cat", "dog"), 3) as page:
        page.begin([row(1)])
        assert read(tmp_path).refreshes and "Step 1 of 3" in read(tmp_path).text
        page.add(row(2, val_loss=4.0, val_mask_ap50=0.25, rpn_positives=7), report(("background", "cat", "dog")))
        while_on = read(tmp_path)
        page.add(row(3))
    end = read(tmp_path)
    assert while_on.refreshes and "Step 2 of 3" in while_on.text
    assert not end.refreshes and "Finished after 3 steps" in end.text
    for seen in (while_on, end):
        labels = [a["aria-label"] for a in seen.all("svg")]
        titles = ["Loss", "The five losses", "AP50 of held-out images", "Learning rate"]
        assert [label.split(";")[0] for label in labels] == [*titles, "Positive anchors and RoIs of a step"]
        assert "val_mask_ap50: 0.25 at step 2" in seen.text and "rpn_positives: 7 at step 2" in seen.text
        (image,) = seen.all("img")
        assert image["src"].startswith("data:image/png;base64,iVBOR")
        assert image["alt"] == "a: 1 object: cat; 1 detection: cat 0.75" and image["alt"] in seen.text
        assert re.sub(r"\s+", " ", seen.text).count("cat 1.000 1.000 1 1 0 dog - - 0 0 0 mean 1.000 1.000 1 1 0") == 1
    assert "loss: 1.667 at step 3; 5 at step 1, least 1.667 at 3, most 5 at 1" in end.text


def test_cocos_ap_has_a_column_where_it_was_measured(tmp_path):
    names = ("background", "cat", "dog")
    one = report(names)
    evaluator = CocoEvaluator(names)
    evaluator.add(one.detections[0], one.samples[0])
    one.coco = evaluator.result()
    with Page(tmp_path, names, 1) as page:
        page.begin([])
        page.add(row(1), one)
    seen = read(tmp_path)
    assert "COCO mask AP" in seen.text and "COCO AP: mean over IoU 0.5 to 0.95" in seen.text
    assert "cat 1.000 1.000 1.000 1 1 0 dog - - - 0 0 0 mean 1.000 1.000 1.000 1 1 0" in re.sub(r"\s+", " ", seen.text)


def test_every_name_is_text_and_nothing_is_fetched(tmp_path):
    folder = tmp_path / f"run {HOSTILE.replace('/', '')}"
    folder.mkdir()
    names = ("background", HOSTILE, "b\udc80")
    with Page(folder, names, 1) as page:
        page.begin([])
        page.add(row(1), report(names, image_id=HOSTILE))
    text, seen = (folder / PAGE).read_text(encoding="utf-8"), read(folder)
    assert not seen.all("script") and seen.text.count(HOSTILE) >= 4  # classes, picture, skipped
    assert seen.all("img")[0]["alt"].startswith(HOSTILE)
    assert not re.search(r"https?:|url\(|<link|@import|href", text)
    assert "prefers-color-scheme: dark" in text


def test_a_run_that_stops_says_so_and_refreshes_no_more(tmp_path):
    with pytest.raises(ZeroDivisionError), Page(tmp_path, ("background",), 3) as page:
        page.begin([row(1)])
        raise ZeroDivisionError("why <it> stopped")
    seen = read(tmp_path)
    assert not seen.refreshes and "Stopped after step 1 of 3 (why <it> stopped)" in seen.text


def test_it_is_written_every_so_many_steps_but_not_too_often(tmp_path, monkeypatch):
    now, written = [100.0], []
    monkeypatch.setattr(page_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(page_module, "write_text", lambda path, text: written.append(page.step))
    page = Page(tmp_path, ("background",), 200)
    page.begin([])
    for step in range(1, 101):
        now[0] += 0.04  # 0.8 seconds in 20 steps
        page.add(row(step))
    assert written == [0, 60]


@pytest.mark.parametrize("trouble", ["a folder of that name", "no folder", "full disk"])
def test_training_goes_on_without_it(tmp_path, capsys, monkeypatch, trouble):
    place = tmp_path / "gone" if trouble == "no folder" else tmp_path
    if trouble == "a folder of that name":
        (tmp_path / PAGE).mkdir()
    if trouble == "full disk":
        monkeypatch.setattr(page_module, "write_text", full)
    config = CONFIG.replace(steps=45)
    with Page(place, Images.class_names, 45) as page:
        train(LinearModel(config), Images(), out_dir=tmp_path, progress=False, page=page)
    assert load_checkpoint(tmp_path / CHECKPOINT).step == 45
    assert capsys.readouterr().err.count("warning: the run goes on without its page: ") == 1


def full(path: Path, text: str):
    raise OSError(28, "No space left on device", str(path))


# --- from the command line


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    assert main(["data", "shapes", "--root", str(root), "--train", "4", "--val", "2", "--size", "64"]) == 0
    return str(root)


def test_a_run_and_a_resumed_run(shapes, tmp_path, monkeypatch):
    import mrcnn_np.training.loop as loop

    out, seen, real = tmp_path / "run", [], loop.train_step

    def interrupted(*args, step, **kwargs):
        seen.append(read(out))
        if step == 3 and len(seen) == 4:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "train_step", interrupted)
    assert PAGE in FILES  # --overwrite takes it away
    assert main(["train", "--root", shapes, "--out", str(out), *SMALL, "--eval-every", "2", "--no-eval"]) == 130
    assert all(page.refreshes for page in seen) and "No step is done yet" in seen[0].text
    assert len(seen[3].all("img")) == 2 and "circle" in seen[3].text
    stopped = read(out)
    assert not stopped.refreshes and "Stopped after step 3 of 4" in stopped.text
    assert main(["train", "--out", str(out), "--resume", "--quiet", "--eval-splits", "val"]) == 0
    # it was resumed from the checkpoint of step 2: the lines after it are computed again
    assert seen[4].refreshes and "Step 2 of 4" in seen[4].text
    end = read(out)
    last = read_steps(out / METRICS)[-1]
    assert not end.refreshes and "Finished after 4 steps" in end.text and len(end.all("img")) == 2
    assert f"loss: {last['loss']:.4g} at step 4" in end.text and len(end.all("svg")) == len(CHARTS)
    before = (out / PAGE).read_bytes()
    assert main(["train", "--out", str(out), "--resume", "--quiet", "--no-eval"]) == 0
    assert (out / PAGE).read_bytes() == before  # nothing new


def test_without_pictures_there_are_curves_and_classes(shapes, tmp_path):
    out = tmp_path / "run"
    options = [*SMALL, "--no-pictures", "--eval-splits", "val"]
    assert main(["train", "--root", shapes, "--out", str(out), *options]) == 0
    seen = read(out)
    assert not seen.all("img") and len(seen.all("svg")) == 4 and len(seen.all("table")) == 1
