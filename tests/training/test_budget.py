"""``--minutes``: how many steps fit, and that a planned run is a run of that many steps."""

import json

import pytest
from linear_model import CONFIG, Images, LinearModel
from small_run import bits

from mrcnn_np.cli.main import main
from mrcnn_np.errors import DataError, UserError
from mrcnn_np.training import budget
from mrcnn_np.training.budget import LEAST, MOST, fitting_warmup, plan_steps


class Clock:
    """Seconds that pass at each look: as many as a table says, then the last of it."""

    def __init__(self, *seconds):
        self.seconds, self.now = list(seconds), 0.0

    def __call__(self):
        self.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        return self.now


def test_the_budget_less_the_timing_over_the_median():
    """Ten looks at the clock, half a second apart: at the start, before step 0, around three steps, twice after."""
    plan = plan_steps(LinearModel(), Images(), 1.0, seed=0, clock=Clock(0.5))
    assert plan == (int((60 - 9 * 0.5) / 0.5), 0.5, LEAST)


def test_what_is_done_between_the_steps_takes_its_share():
    alone = plan_steps(LinearModel(), Images(), 1.0, seed=0, clock=Clock(0.5))
    both = plan_steps(LinearModel(), Images(), 1.0, seed=0, clock=Clock(0.5), seconds_between=0.5)
    assert both.steps == alone.steps // 2


def test_a_long_budget_times_more_steps_and_an_outlier_moves_nothing():
    plan = plan_steps(LinearModel(), Images(), 600.0, seed=0, clock=Clock(*[0.1] * 8, 90.0, *[0.1] * 500))
    assert plan.measured == MOST and plan.seconds == pytest.approx(0.1)


def test_no_step_fits():
    with pytest.raises(UserError, match=r"a step takes 9 s, and of --minutes 0.1 0 s are left .* at least one"):
        plan_steps(LinearModel(), Images(), 0.1, seed=0, clock=Clock(9.0))


def test_the_model_stays_and_bad_images_are_met_as_in_the_run():
    model = LinearModel()
    before = {name: p.copy() for name, p in model.params.items()}
    plan_steps(model, Images(), 1.0, seed=0, clock=Clock(0.5))
    assert all((model.params[name] == before[name]).all() for name in before)
    with pytest.raises(DataError, match="image image0"):
        plan_steps(model, Images(bad=[0]), 1.0, seed=0, clock=Clock(0.5))
    assert plan_steps(model, Images(bad=[0]), 1.0, seed=0, clock=Clock(0.5), skip_bad=True).steps > 1


@pytest.mark.parametrize(("steps", "warmup"), [(5, 0), (10, 1), (1000, 50)])
def test_the_warmup_is_a_tenth_at_most(steps, warmup):
    assert fitting_warmup(CONFIG.replace(warmup_steps=50), steps) == warmup


# --- from the command line

PLAIN = ["--size", "64", "--batch-size", "2", "--quiet", "--no-eval", "--no-pictures", "--checkpoint-every", "2"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    assert main(["data", "shapes", "--root", str(root), "--train", "6", "--val", "2", "--size", "64"]) == 0
    return str(root)


def test_a_planned_run_is_a_run_of_that_many_steps_also_when_it_is_stopped(shapes, tmp_path, monkeypatch, capsys):
    import mrcnn_np.training.loop as loop

    monkeypatch.setattr(budget, "SHARE", 0.0)  # three timed steps
    real_plan = plan_steps
    few = lambda *args, **kwargs: real_plan(*args, **kwargs)._replace(steps=4)  # noqa: E731
    monkeypatch.setattr("mrcnn_np.cli.train.plan_steps", few)
    planned, plain = tmp_path / "planned", tmp_path / "plain"
    real = loop.train_step

    def interrupted(*args, step, **kwargs):
        if step == 3:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupted)
        assert main(["train", "--root", shapes, "--out", str(planned), "--minutes", "2", *PLAIN]) == 130
    said = capsys.readouterr().out
    assert "timing the first steps, to plan 2 minutes" in said and ": 4 steps in 2 minutes, the first 0" in said
    options = json.loads((planned / "options.json").read_text())
    assert (options["steps"], options["minutes"], options["config"]) == (4, 2.0, ["warmup_steps=0"])
    monkeypatch.delattr("mrcnn_np.cli.train.plan_steps")  # a resumed run plans nothing
    assert main(["train", "--out", str(planned), "--resume", "--minutes", "2", *PLAIN]) == 0
    fixed = ["--steps", "4", "--config", "warmup_steps=0"]
    assert main(["train", "--root", shapes, "--out", str(plain), *fixed, *PLAIN]) == 0
    assert bits(planned) == bits(plain)


def test_a_budget_beside_steps_is_refused(shapes, tmp_path, capsys):
    out = tmp_path / "a"
    command = ["train", "--root", shapes, "--out", str(out), *PLAIN]
    assert main([*command, "--minutes", "2", "--steps", "4"]) == 2
    assert "--minutes 2 plans the number of steps; it does not go with --steps" in capsys.readouterr().err
    for minutes in ("0", "-1", "nan", "soon"):
        with pytest.raises(SystemExit):
            main(["train", "--minutes", minutes])
    assert main([*command, "--minutes", "0.0001"]) == 2
    assert "expected time for at least one" in capsys.readouterr().err
    assert not out.exists()
