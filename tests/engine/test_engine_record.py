"""The facts of a checkpoint: typed while they are held, the same JSON when they are written again."""

import json

import pytest

from pairfree.data.normalize import Normalizer
from pairfree.engine.plan import Clock, Plan
from pairfree.engine.record import OPTIONAL, Record
from pairfree.errors import CheckpointError

OLDEST = {
    "method": "n2v",
    "config": {"lr": 1e-05, "width": 4},
    "preset": "cpu",
    "normalizer": {"offset": 0.5, "scale": 255.0},
    "channels": 1,
    "seed": 7,
    "plan": [["train", 100]],
    "step": 60,
    "data_sha256": "a1",
    "precision": "float32",
    "versions": {"pairfree": "0.1.0", "torch": "2.13.0+cpu"},
}
"""What every checkpoint has said from the first on."""
FULL = {
    **OLDEST,
    "clean_normalizer": {"offset": 0, "scale": 2.5},
    "channels": 3,
    "slices_around": 1,
    "denoiser": "average",
    "weights": 9180,
    "clock": {
        "budget_s": 600.0,
        "shares": [1.0],
        "paces": [[0.05, 0.06]],
        "planned_s": 4.0,
        "spent_s": 30.5,
        "foretold_s": 31.0,
        "stages_s": [[30.5, 31.0]],
    },
    "watch": {"accuracy": 0, "contrast": 12},
}


def test_facts_come_back_as_they_were_written():
    written = json.dumps(Record.from_facts(FULL, "here").as_facts(), sort_keys=True)
    assert written == json.dumps(FULL, sort_keys=True)


def test_what_an_older_checkpoint_lacks_is_at_its_default():
    record = Record.from_facts(OLDEST, "here")
    assert (record.slices_around, record.denoiser, record.weights) == (0, "net", None)
    assert (record.clean_normalizer, record.clock, record.watch) == (None, None, None)
    assert record.as_facts() == {**OLDEST, "slices_around": 0, "denoiser": "net"}


def test_facts_have_types():
    record = Record.from_facts(FULL, "here")
    assert record.normalizer == Normalizer(0.5, 255.0)
    assert record.clean_normalizer == Normalizer(0, 2.5)
    assert record.plan == Plan((("train", 100),))
    assert record.clock == Clock(600.0, [1.0], [[0.05, 0.06]], 4.0, 30.5, 31.0, [[30.5, 31.0]])
    assert record.watch.standing == {"accuracy": 0, "contrast": 12}


def test_a_watch_without_signs_is_not_written():
    assert "watch" not in Record.from_facts({**OLDEST, "watch": {}}, "here").as_facts()


def test_counts_of_signs_that_are_none_are_passed_over():
    assert (
        "watch"
        not in Record.from_facts({**OLDEST, "watch": {"no such sign": 3}}, "here").as_facts()
    )


def test_what_is_no_fact_of_a_record_is_passed_over():
    assert (
        Record.from_facts({**FULL, "format": 1, "tensors_sha256": "b2"}, "here").as_facts() == FULL
    )


@pytest.mark.parametrize("key", sorted({*OPTIONAL, "clean_normalizer"}))
@pytest.mark.parametrize("wrong", [None, True, [2], {"scale": 1e999}])
def test_a_wrong_field_that_not_every_run_has_is_named(key, wrong):
    with pytest.raises(CheckpointError, match=rf"^here: field '{key}'"):
        Record.from_facts({**FULL, key: wrong}, "here")


def test_a_number_too_large_for_a_float_is_no_intensity_map():
    with pytest.raises(CheckpointError, match=r"^here: field 'normalizer'"):
        Record.from_facts({**FULL, "normalizer": {"offset": 0, "scale": 10**400}}, "here")


def test_an_untrained_model_has_a_record_too():
    record = Record.untrained("n2v", Normalizer(0.0, 1.0), 3)
    assert (record.channels, record.step, record.plan.total, record.config) == (3, 0, 0, {})
