"""The index of symptoms names fields that exist, and every convention is in it."""

import re
from pathlib import Path

from mrcnn_np.config import DECLARATIONS, fields_where
from mrcnn_np.conventions.document import part_of
from mrcnn_np.conventions.symptoms import SYMPTOMS, markdown_index

PAGE = Path(__file__).parents[2] / "docs" / "conventions.md"


def test_every_row_names_fields_that_exist():
    for symptom in SYMPTOMS:
        assert symptom.fields and set(symptom.fields) <= set(DECLARATIONS), symptom.seen
        assert len(set(symptom.fields)) == len(symptom.fields)
        for name in re.findall(r"`([a-z]\w*_\w+)`", symptom.apart):  # how to tell apart speaks of these
            if name in DECLARATIONS:
                assert name in symptom.fields, (symptom.seen, name)


def test_every_convention_has_a_symptom():
    indexed = {field for symptom in SYMPTOMS for field in symptom.fields}
    assert set(fields_where(lambda d: d.kind == "convention")) <= indexed


def test_half_a_pixel():
    (row,) = (s for s in SYMPTOMS if "half a pixel" in s.seen and "Boxes or masks" in s.seen)
    assert {"roi_aligned", "box_frame", "detection_rounded", "mask_paste"} <= set(row.fields)


def test_the_index_stands_in_the_page():
    written = part_of(PAGE.read_text(), "symptoms")
    assert written == markdown_index(), "run make docs-numbers"
    assert written.count("\n| ") == len(SYMPTOMS)
