"""Folders of runs as ``train`` leaves them, written without training."""

import json

from mrcnn_np import presets

LOSSES = {"loss": 2.0, "rpn_class": 0.25, "rpn_box": 0.5, "head_class": 0.5, "head_box": 0.25, "head_mask": 0.5}
OBJECTS = {"cat": 3, "dog": 1, "emu": 0}


def evaluation(ap, objects=OBJECTS, images=4):
    """What ``summary.json`` holds of one kind on one split."""
    classes = {name: {"ap": ap if count else None, "gt": count, "tp": 0, "fp": 0} for name, count in objects.items()}
    return {"method": "voc10", "images": images, "mean_ap": ap, "classes": classes}


def make_run(
    folder, *, steps=4, done=None, box=0.5, mask=0.25, coco=None, objects=OBJECTS, fields=(), finished=True, **options
):
    """Write a run of the preset tiny and return its folder as text.

    ``done`` steps of ``steps``; ``box`` and ``mask`` are AP on "val", ``coco`` is COCO's of masks, which older runs
    lack; ``fields`` change the configuration, ``options`` what was asked for. Without ``finished`` there is no summary.
    """
    folder.mkdir(parents=True)
    config = presets.tiny(num_classes=4, steps=steps).replace(**dict(fields))
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "options.json").write_text(json.dumps({"data": "voc", "root": "/data/voc", "steps": steps} | options))
    done = steps if done is None else done
    for name, values in (("metrics", LOSSES | {"learning_rate": 0.05}), ("timings", {"seconds": 0.5})):
        lines = [json.dumps({"step": step, **values}) + "\n" for step in range(1, done + 1)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    if finished:
        measured = {"box": evaluation(box, objects), "mask": evaluation(mask, objects), "seconds": 0.1, "notes": []}
        measured |= {} if coco is None else {"coco": {"method": "coco", "iou_type": "mask", "AP": coco, "classes": {}}}
        summary = {"run": str(folder), "steps": done, "images": 20, "training_seconds": 0.5 * done}
        summary |= {"losses_of_last_steps": LOSSES, "evaluation": {"val": measured}}
        (folder / "summary.json").write_text(json.dumps(summary))
    return str(folder)
