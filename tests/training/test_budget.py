"""``--minutes``: how many steps fit, and that a planned run is a run of that many steps."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from fake_ranks import on_ranks
from linear_model import CONFIG, Images, LinearModel
from small_run import bits

from mrcnn_np.cli.main import main
from mrcnn_np.errors import DataError, UserError
from mrcnn_np.training import budget
from mrcnn_np.training.budget import LEAST, MOST, fitting_warmup, plan_steps
from mrcnn_np.training.held_out import HeldOut


class Clock:
    """Seconds that pass at each look: as many as a table says, then the last of it."""

    def __init__(self, *seconds):
        self.seconds, self.now = list(seconds), 0.0

    def __call__(self):
        self.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        return self.now


def test_the_budget_less_the_timing_over_the_median():
    """Looks at the clock, half a second apart: around the first step, around three steps, twice after."""
    plan = plan_steps(LinearModel(), Images(), 1.0, seed=0, clock=Clock(0.5))
    assert plan == (int((60 - 8 * 0.5) / 0.5), 0.5, LEAST)


def test_what_the_first_step_compiles_is_not_counted():
    """Eight minutes of compiling, in a budget of one."""
    plan = plan_steps(LinearModel(), Images(), 1.0, seed=0, clock=Clock(0.5, 481.0, 0.5))
    assert plan == plan_steps(LinearModel(), Images(), 1.0, seed=0, clock=Clock(0.5))


def test_nor_on_several_ranks_which_all_go_by_the_first_ones_clock(monkeypatch):
    monkeypatch.setattr(budget, "train_step", lambda *args, **kwargs: {})  # the line knows no ranks

    def work(ranks):
        clock = Clock(0.5, 481.0, 0.5) if ranks.first else Clock(3000.0)
        return plan_steps(LinearModel(), Images(), 1.0, seed=0, clock=clock, ranks=ranks)

    one, other = on_ranks(2, work)
    assert one == other == (int((60 - 8 * 0.5) / 0.5), 0.5, LEAST)


def test_what_the_first_evaluation_compiles_is_not_counted(monkeypatch):
    """The clock of ``HeldOut``: an evaluation of 7 images takes 0.5 s for 4 of them, and the first one 300 s more."""
    now = Clock(1.0)
    waits = [300.0, 0.5]

    def measure(self, model):
        now.now += waits.pop(0)

    monkeypatch.setattr(HeldOut, "measure", measure)
    monkeypatch.setattr("mrcnn_np.training.held_out.time", SimpleNamespace(perf_counter=lambda: now.now))
    assert HeldOut(Images(), 5).seconds_a_time(LinearModel()) == pytest.approx(0.5 / 4 * 7)
    assert not waits


def test_what_is_done_between_the_steps_takes_its_share():
    alone = plan_steps(LinearModel(), Images(), 1.0, seed=0, clock=Clock(0.5))
    both = plan_steps(LinearModel(), Images(), 1.0, seed=0, clock=Clock(0.5), seconds_between=0.5)
    assert both.steps == alone.steps // 2


def test_a_long_budget_times_more_steps_and_an_outlier_moves_nothing():
    plan = plan_steps(LinearModel(), Images(), 600.0, seed=0, clock=Clock(*[0.1] * 8, 90.0, *[0.1] * 500))
    assert plan.measured == MOST and plan.seconds == pytest.approx(0.1)


def test_no_step_fits():
    with pytest.raises(
        UserError,
        match=r"^--minutes 0.1 is too short: timing 3 steps took 72 s, and one takes 9 s; "
        "expected at least 1.5 minutes$",
    ):
        plan_steps(LinearModel(), Images(), 0.1, seed=0, clock=Clock(9.0))
    with pytest.raises(UserError, match=r"one takes 0.5 s and 99 s of held-out evaluation come with each; expected"):
        plan_steps(LinearModel(), Images(), 1.0, seed=0, clock=Clock(0.5), seconds_between=99.0)


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
    assert "timing the first steps, to plan 2 minutes (a busy machine makes it longer or shorter)\n" in said
    assert ": 4 steps in 2 minutes, the first 0" in said
    options = json.loads((planned / "options.json").read_text())
    assert (options["steps"], options["minutes"], options["config"]) == (4, 2.0, ["warmup_steps=0"])
    monkeypatch.delattr("mrcnn_np.cli.train.plan_steps")  # a resumed run plans nothing
    assert main(["train", "--out", str(planned), "--resume", "--minutes", "2", *PLAIN]) == 0
    fixed = ["--steps", "4", "--config", "warmup_steps=0"]
    assert main(["train", "--root", shapes, "--out", str(plain), *fixed, *PLAIN]) == 0
    assert bits(planned) == bits(plain)


def test_what_is_said_of_a_plan(shapes, tmp_path, monkeypatch, capsys):
    """Compiling is not counted, held-out images have their share, and weights are said to train as planned."""
    monkeypatch.setattr(budget, "SHARE", 0.0)
    real_plan = plan_steps
    few = lambda *args, **kwargs: real_plan(*args, **kwargs)._replace(steps=2)  # noqa: E731
    monkeypatch.setattr("mrcnn_np.cli.train.plan_steps", few)
    monkeypatch.setattr("mrcnn_np.cli.train.compiling", lambda say: nullcontext([400.0, 81.2]))
    monkeypatch.setattr(HeldOut, "seconds_a_time", lambda self, model: 1.5)
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["train", "--root", shapes, "--minutes", "1", *PLAIN]
    assert main([*command, "--out", str(first), "--eval-every", "1"]) == 0
    said = capsys.readouterr().out
    assert "timing the first steps, to plan 1 minute (a busy" in said
    assert "compiling took 481 s, which is not counted; it is kept for the next run\n" in said
    aside = "; 3 s are set aside for held-out images, looked at every 1 steps\n"
    assert f": 2 steps in 1 minute, the first 0 of them warm-up{aside}" in said
    assert main([*command, "--out", str(second), "--weights", str(first / "checkpoint.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "training: 2 steps of 2 images, learning rate 0.05\n" in said and "set aside" not in said


def test_a_budget_beside_steps_is_refused(shapes, tmp_path, capsys):
    out = tmp_path / "a"
    command = ["train", "--root", shapes, "--out", str(out), *PLAIN]
    assert main([*command, "--minutes", "2", "--steps", "4"]) == 2
    assert "--minutes 2 plans the number of steps; it does not go with --steps" in capsys.readouterr().err
    for minutes in ("0", "-1", "nan", "soon"):
        with pytest.raises(SystemExit):
            main(["train", "--minutes", minutes])
    assert main([*command, "--minutes", "0.0001"]) == 2
    assert "--minutes 0.0001 is too short: " in capsys.readouterr().err
    assert not out.exists()
