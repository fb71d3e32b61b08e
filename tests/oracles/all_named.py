"""What every finding of a data set must have: all that it concerns, in words."""

from __future__ import annotations


def all_named(findings):
    """Return the findings, each of which names as many as it counts and begins its example with the first."""
    for one in findings:
        if one.text.startswith("nothing can be learned"):
            assert one.concerns == () and one.names_all
            continue
        assert len(one.concerns) == one.count, one
        first = one.concerns[0].partition(", the latter in ")[0]  # of three spellings the line names all in one
        assert first and one.example.startswith(first), one
        assert one.as_dict()["concerns"] == list(one.concerns)
    return findings
