"""What the callback of a fit receives."""

import jax.random as jr

import pushforward as pf
from training_cases import simple_flow, target, train


def received(steps, num_evaluations):
    """What the callback of a training receives."""
    calls = []
    options = {"steps": steps, "num_evaluations": num_evaluations, "callback": calls.append}
    train(simple_flow(), pf.ReverseKL(target, 4), key=jr.key(0), **options)
    return calls


def test_the_callback_receives_the_steps_and_the_fresh_loss():
    calls = received(7, 3)
    assert [progress.step for progress in calls] == [3, 6, 7]
    assert all(type(progress.loss) is float for progress in calls)
    assert calls[-1].loss < calls[0].loss


def test_what_the_callback_receives_is_shown_without_its_model():
    [progress] = received(2, 1)
    assert (
        repr(progress)
        == str(progress)
        == (
            f"Progress(stage={progress.stage!r}, step=2, loss={progress.loss!r}, best_loss={progress.best_loss!r}, "
            f"seconds={progress.seconds!r}, metrics={progress.metrics!r})"
        )
    )
