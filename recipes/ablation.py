"""What is each step of a recipe worth? Train with one more of them at a time, for the same time on the same data.

::

    python recipes/ablation.py --data nuclei.zip                 # the steps of recipes/nuclei.json, one after the other
    python recipes/ablation.py --data mine --step 'size: image_max_size=512' --step 'norm: fpn_norm=true'

Each row has the fields of the rows above it and its own. All rows train about equally long, because a row whose steps
take longer makes fewer of them: that is the question at a laptop. The schedule is stretched over the steps. Rows are
measured on the images that ``--val-fraction`` holds out. The table is printed after each row, and kept in
``runs/ablation/ablation.json``; rows that are there already are not trained again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mrcnn_np.tables import markdown_table

NUCLEI = (
    "the preset small:",
    "more regions and detections: rois_per_image=128 proposals_pre_nms_train=1000 proposals_post_nms_train=600 "
    "proposals_pre_nms_test=3000 proposals_post_nms_test=1500 detections_per_image=300 detection_nms_iou=0.5",
    "anchors of the nuclei's size: anchor_sizes=[8,14,24,40,64]",
    "pictures twice as large: image_min_size=512 image_max_size=512 anchor_sizes=[16,28,48,80,128]",
    "batch norm in pyramid and mask head: fpn_norm=true mask_head_norm=true",
    "two pictures a step: batch_size=2",
    "boxes and masks count twice, half of the regions positive: loss_weights=[1,1,1,2,2] roi_positive_fraction=0.5",
    "falling along a cosine: decay=cosine",
    "flips, turns, colours: flip_vertical=0.5 quarter_turns=0.75 colour_jitter=[0.3,0.3,0.3]",
    "closer neighbours, wider masks: detection_nms_iou=0.6 mask_threshold=0.45",
)


def main() -> None:
    """Train and measure one row after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="what `mrcnn-np train --data` takes")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--step", action="append", metavar="'NAME: FIELD=VALUE ...'", help="default: the nuclei's")
    parser.add_argument("--minutes", type=float, default=5, help="of each row's training (default: %(default)g)")
    parser.add_argument("--val-fraction", default="0.16", help="default: %(default)s")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    args = parser.parse_args()
    fields: list[str] = []
    rows: dict[str, Any] = {}
    for number, text in enumerate(args.step or NUCLEI):
        name, _, changes = text.partition(":")
        fields += changes.split()
        rows[name] = _row(args, args.out / f"{number}-seed{args.seed}", fields)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "ablation.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
        print(markdown_table(("step", "mask AP50", "COCO mask AP", "steps"), [_cells(n, r) for n, r in rows.items()]))


def _row(args: argparse.Namespace, run: Path, fields: list[str]) -> dict[str, Any]:
    """Train with these fields, unless that is done; return the steps made and COCO's numbers."""
    changes = [part for field in fields for part in ("--config", field)]
    if not (run / "summary.json").exists():
        again = ["--resume"] if (run / "options.json").exists() else []
        data = ["--data", args.data, "--val-fraction", args.val_fraction, "--preset", args.preset, "--seed", args.seed]
        _mrcnn_np("train", *data, "--minutes", str(args.minutes), *changes, "--out", str(run), "--no-pictures", *again)
    _mrcnn_np("eval", "--run", str(run), "--method", "coco", "--iou-type", "mask", "--out", str(run / "coco.json"))
    steps = json.loads((run / "summary.json").read_text(encoding="utf-8"))["steps"]
    return {"fields": fields, "steps": steps, "coco": json.loads((run / "coco.json").read_text(encoding="utf-8"))}


def _mrcnn_np(*command: str) -> None:
    subprocess.run([sys.executable, "-m", "mrcnn_np", *command, "--quiet"], check=True)


def _cells(name: str, row: dict[str, Any]) -> tuple[str, str, str, str]:
    mask = row["coco"]["mask"]
    return name, f"{mask['AP50']:.3f}", f"{mask['AP']:.3f}", str(row["steps"])


if __name__ == "__main__":
    main()
