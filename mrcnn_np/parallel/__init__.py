"""Several processes at one piece of work: who takes what, and how sums come about. ``docs/scaling.md`` says more."""
