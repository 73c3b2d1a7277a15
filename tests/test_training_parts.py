"""The small parts of training: budget arithmetic, the schedule, and a quiet start of Keras."""

import math
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.training.budget import Budget, Plan, plan_for_steps

NOW = 1000.0

every_validate_every = pytest.mark.parametrize("validate_every", (None, 10))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands at NOW until it is set."""
    times = [NOW]
    monkeypatch.setattr(time, "monotonic", lambda: times[-1])
    return times


def budget(seconds=100.0, started=NOW, reserve=0.0) -> Budget:
    return Budget(seconds, started, reserve)


def duration(plan: Plan, step_seconds: float, validation_seconds: float) -> float:
    """Seconds that a plan takes, by counting."""
    validations = math.ceil(plan.steps / plan.validate_every)
    return plan.steps * step_seconds + validations * validation_seconds


@pytest.mark.parametrize(
    ("steps", "validate_every", "plan"),
    (
        (1, None, Plan(1, 1)),
        (20, None, Plan(20, 1)),
        (21, None, Plan(21, 2)),
        (1000, None, Plan(1000, 50)),
        (1000, 300, Plan(1000, 300)),
        (5, 300, Plan(5, 5)),
    ),
)
def test_a_plan_for_steps(steps, validate_every, plan):
    assert plan_for_steps(steps, validate_every) == plan


@given(st.integers(1, 10**9))
def test_a_run_of_given_steps_has_at_most_20_validations(steps):
    plan = plan_for_steps(steps, None)
    assert plan.steps == steps
    validations = math.ceil(steps / plan.validate_every)
    assert min(steps, 11) <= validations <= 20


def test_what_is_left_counts_from_the_start_to_the_reserve(clock):
    assert budget(100, NOW - 30, reserve=5).left() == 65
    clock.append(NOW + 60)
    assert budget(100, NOW - 30, reserve=5).left() == 5
    clock.append(NOW + 80)
    assert budget(100, NOW - 30, reserve=5).left() == -15


@pytest.mark.parametrize(
    ("step", "validation", "validate_every", "plan"),
    (
        (0.1, 0.5, None, Plan(960, 120)),  # 4 s for validations are 8
        (0.1, 0.01, None, Plan(997, 40)),  # no more than 25
        (0.1, 0.0, None, Plan(1000, 40)),
        (0.1, 30.0, None, Plan(700, 700)),  # one there must be
        (0.1, 1.0, 10, Plan(500, 10)),
        (0.1, 0.0, 10, Plan(1000, 10)),
        (300.0, 1.0, None, Plan(1, 1)),
        (0.1, 300.0, None, Plan(1, 1)),
        (300.0, 1.0, 1, Plan(1, 1)),
    ),
)
def test_a_plan_by_hand(step, validation, validate_every, plan, clock):
    assert budget(100).plan(step, validation, validate_every) == plan
    assert budget(130, NOW - 20, reserve=10).plan(step, validation, validate_every) == plan


@every_validate_every
def test_a_budget_already_spent_still_makes_a_step(validate_every, clock):
    assert budget(100, NOW - 200).plan(0.1, 0.1, validate_every).steps == 1


@given(st.floats(10, 1e5), st.floats(1e-4, 1), st.floats(0, 0.05), st.sampled_from((None, 1, 9)))
def test_a_plan_fills_the_budget_and_no_more(seconds, step_seconds, share, validate_every):
    """But for a step or a validation, and for validations that need not be."""
    validation_seconds = share * seconds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: NOW)
        plan = budget(seconds).plan(step_seconds, validation_seconds, validate_every)
    took = duration(plan, step_seconds, validation_seconds)
    most = seconds + (validation_seconds if validate_every else 0)
    least = seconds - validation_seconds if validate_every else 0.96 * seconds
    assert took <= most * (1 + 1e-9) or plan.steps == 1
    assert took >= least - step_seconds - 1e-9 * seconds


def test_a_clock_near_enough_lowers_nothing(clock):
    plan = Plan(1000, 100)
    clock.append(NOW + 50.9)  # half way, and 0.9 % late
    assert budget().lowered(500, plan, 0.1, 0.0) == 1000
    clock.append(NOW + 30)  # early
    assert budget().lowered(500, plan, 0.1, 0.0) == 1000


def test_a_clock_that_is_late_lowers_the_total(clock):
    plan = Plan(1000, 100)
    clock.append(NOW + 60)
    assert budget().lowered(500, plan, 0.1, 0.0) == 900  # 40 s for 0.1 s each
    assert budget().lowered(500, plan, 0.1, 2.0) == 800  # five validations take 10 s of them
    assert budget(reserve=10).lowered(500, plan, 0.1, 0.0) == 800
    assert budget().lowered(600, plan, 0.2, 0.0) == 800


def test_before_the_half_a_late_clock_may_recover(clock):
    clock.append(NOW + 90)
    assert budget().lowered(499, Plan(1000, 100), 0.1, 0.0) == 1000
    assert budget().lowered(500, Plan(1000, 100), 0.1, 0.0) == 600


def test_a_total_is_lowered_to_the_next_step_at_least(clock):
    clock.append(NOW + 500)
    assert budget().lowered(500, Plan(1000, 100), 0.1, 0.0) == 501
    assert budget().lowered(1000, Plan(1000, 100), 0.1, 0.0) == 1000


def test_a_budget_is_spent_one_percent_after_it(clock):
    for late, is_spent in ((-1, False), (0, False), (0.9, False), (1.1, True), (50, True)):
        clock.append(NOW + 100 + late)
        assert budget().is_spent() == is_spent
        assert budget(110, reserve=10).is_spent() == (late > 2.2)


@pytest.fixture(scope="module")
def schedule():
    from chargen.training.backend import ensure_backend

    ensure_backend()
    from chargen.training.schedule import WarmupCosine

    return WarmupCosine


def rate(peak: float, total: int, step: int) -> float:
    """The formula, in float64: t counts from 1/(total + 1) and is 1 after the last step."""
    t = (step + 1) / (total + 1)
    if t < 0.02:
        return peak * t / 0.02
    return peak * 0.5 * (1 + math.cos(math.pi * (t - 0.02) / 0.98))


@pytest.mark.parametrize("total", (1, 2, 10, 50, 1000, 100_000))
def test_rates_are_those_of_the_formula(total, schedule):
    found = schedule(8e-3, total)
    for step in sorted({int(share * (total - 1)) for share in np.linspace(0, 1, 21)} | {0}):
        assert float(found(step)) == pytest.approx(rate(8e-3, total, step), abs=1e-7)


def test_the_rate_rises_to_its_peak_and_falls_to_zero(schedule):
    found = schedule(0.5, 1000)
    rates = [float(found(step)) for step in range(1000)]
    assert np.argmax(rates) == 20 and rates[20] == pytest.approx(0.5, rel=1e-3)
    assert (np.diff(rates[:21]) > 0).all() and (np.diff(rates[20:]) < 0).all()
    assert rates[0] == pytest.approx(0.5 / 0.02 / 1001)
    assert 0 < rates[-1] < 1e-5


def test_a_single_step_learns(schedule):
    assert float(schedule(0.5, 1)(0)) > 0.1


def test_after_its_end_the_rate_stays_zero(schedule):
    assert float(schedule(0.5, 100)(100)) == pytest.approx(0, abs=1e-6)
    assert float(schedule(0.5, 100)(10**6)) == pytest.approx(0, abs=1e-6)


def test_the_total_is_a_variable_that_a_compiled_step_reads(schedule):
    import tensorflow as tf

    found, traces = schedule(1.0, 1000), []

    @tf.function
    def compiled(step):
        traces.append(step)
        return found(step)

    for total in (1000, 100, 40):
        found.total.assign(total)
        assert float(compiled(tf.constant(30))) == pytest.approx(rate(1.0, total, 30), abs=1e-6)
    assert len(traces) == 1
    assert not found.total.trainable


def test_a_schedule_is_made_again_from_its_config(schedule):
    found = schedule(0.25, 100)
    found.total.assign(70)
    again = schedule.from_config(found.get_config())
    assert [float(again(step)) for step in (0, 35)] == [float(found(step)) for step in (0, 35)]


def python(code: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)


NOISE = (
    "2026-01-01 10:00:00.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations",
    "2026-01-01 10:00:00.123456: W tensorflow/core/util/port.cc:153] something or other",
    "I0000 00:00:1795331766.103516    7336 port.cc:153] oneDNN custom operations are on.",
    "W0000 00:00:1795331766.103516    7336 gpu_device.cc:2431] TensorFlow was not built",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "To enable the following instructions: AVX2 AVX512F, in other operations, rebuild",
    "E0000 00:00:1795331766.1 7336 cuda_platform.cc:51] failed call to cuInit: no device",
    "E0000 00:00:1795331766.1 7336 cuda_dnn.cc:8579] Unable to register cuDNN factory",
)
REAL = (
    "Traceback (most recent call last):",
    "ImportError: libcudart.so.12: cannot open shared object file",
    "E0000 00:00:1795331766.1 7336 hdf5.cc:1] a real error",
    "Illegal instruction",
    "I am no log line: 2026-01-01",
    "an é and a \U0001f600",
    "",
    "F0000 00:00:1795331766.1 7336 check.cc:1] Check failed",
)


def test_known_noise_is_dropped_and_real_lines_pass():
    lines = [line for pair in zip(NOISE, REAL, strict=True) for line in pair]
    ended = python(f"""
import os, sys
from chargen.training.backend import _without_noise
sys.stderr.write("before\\n")
with _without_noise():
    for line in {lines!r}:
        os.write(2, (line + "\\n").encode())
    sys.stderr.write("by Python\\n")
sys.stderr.write("after\\n")
""")
    expected = ["before", *REAL, "by Python", "after"]
    assert ended.stderr.decode().split("\n") == [*expected, ""]
    assert ended.returncode == 0


def test_what_was_held_back_is_passed_on_when_the_import_fails():
    ended = python("""
import os
from chargen.training.backend import _without_noise
with _without_noise():
    os.write(2, b"why it failed\\n")
    raise ImportError("it failed")
""")
    lines = ended.stderr.decode().splitlines()
    assert (lines[0], lines[-1]) == ("why it failed", "ImportError: it failed")
    assert ended.returncode == 1


def test_a_closed_stderr_is_no_obstacle():
    ended = python("""
import os
os.close(2)
from chargen.training.backend import _without_noise
with _without_noise():
    print("inside")
print("after")
""")
    assert ended.stdout == b"inside\nafter\n"


def test_keras_comes_in_and_trains_many_models_without_a_word():
    ended = python("""
from chargen.training.backend import ensure_backend
ensure_backend()
import sys
assert {"keras", "tensorflow"} <= set(sys.modules)
import keras
print(keras.backend.backend())
ensure_backend()

import logging
import numpy as np
said = []
logger = logging.getLogger("tensorflow")
logger.filters.insert(0, lambda record: said.append(record.getMessage()) or True)
for _ in range(8):  # TensorFlow counts five
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse", jit_compile=False)
    model.fit(np.zeros((1, 1)), np.zeros((1, 1)), verbose=0)
print("retracing" in said[0])
sys.stdout.flush()
logger.warning("the disk is on fire")
""")
    assert (ended.returncode, ended.stdout) == (0, b"tensorflow\nTrue\n")
    assert ended.stderr == b"WARNING:tensorflow:the disk is on fire\n"


def test_without_tensorflow_the_refusal_says_what_to_install():
    ended = python("""
import importlib.util, sys
importlib.util.find_spec = lambda name: None
from chargen.errors import RunError
from chargen.training.backend import ensure_backend
try:
    ensure_backend()
except RunError as error:
    print(error)
""")
    assert ended.stdout.decode().splitlines() == [
        "training needs TensorFlow, which is not installed: pip install tensorflow"
    ]
