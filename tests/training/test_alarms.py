"""Alarms ring where there is trouble, once, and nowhere else; and they name keys that exist."""

import json
import logging
import math
import re
from collections.abc import Callable, Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.encoders.scan import ScanEncoderConfig
from toolkit.encoders.text import TextEncoderConfig
from toolkit.errors import TrainingError
from toolkit.objectives import OBJECTIVES
from toolkit.objectives.simclr import nt_xent_loss
from toolkit.reports.monitors import MONITORS
from toolkit.scans.views import ViewConfig
from toolkit.training import TrainingConfig, alignment, effective_rank, embedding_std, uniformity
from toolkit.training.alarms import DEFAULT_LIMITS, EXPLOSION, SPIKE, TROUBLES, Alarm, Alarms, Limit, nan_message

Values = dict[str, float]
Loss = Callable[[Tensor, Tensor], Tensor]


def negative_cosine(z0: Tensor, z1: Tensor) -> Tensor:
    """SimSiam's loss with neither stop-gradient nor predictor: all equal is its optimum."""
    return -F.cosine_similarity(z0, z1).mean()


def variance_only(z0: Tensor, z1: Tensor) -> Tensor:
    """VICReg's loss without the term that decorrelates: one trait in all dimensions is an optimum."""
    variances = [F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() for z in (z0, z1)]
    return F.mse_loss(z0, z1) + variances[0] + variances[1]


def contrast(z0: Tensor, z1: Tensor) -> Tensor:
    return nt_xent_loss(z0, z1, 0.2)


def train(loss_of: Loss, num_steps: int = 60, one_trait: bool = False) -> list[Values]:
    """What the loop logs of a small network, at each step. Two views share all of a sample, or one number."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    shared, noise = torch.ones(16), torch.full((16,), 0.3)
    if one_trait:
        shared[1:], noise[:1], noise[1:] = 0.0, 0.0, 1.0
    rows = []
    for _ in range(num_steps):
        x = torch.randn(64, 16)
        z0, z1 = (net(shared * x + noise * torch.randn_like(x)) for _ in range(2))
        loss = loss_of(z0, z1)
        optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        monitors = {"embedding_std": embedding_std, "effective_rank": effective_rank, "uniformity": uniformity}
        rows.append({name: monitor(z0).item() for name, monitor in monitors.items()})
        rows[-1] |= {"loss": loss.item(), "grad_norm": grad_norm.item(), "alignment": alignment(z0, z1).item()}
    return rows


def run(alarms: Alarms, rows: Iterable[Values], start: int = 0) -> list[Alarm]:
    return [alarm for step, row in enumerate(rows, start + 1) for alarm in alarms.check_values(step, row)]


def kinds(rows: Iterable[Values], limits: dict[str, Limit] | None = None) -> list[str]:
    return [alarm.kind for alarm in run(Alarms(limits or {}, "warn"), rows)]


def std(*values: float) -> list[Values]:
    return [{"embedding_std": value} for value in values]


HEALTHY = [{"loss": 3 + 0.1 * math.sin(7 * i), "grad_norm": 2 + math.sin(5 * i)} for i in range(30)]


def test_a_network_that_collapses_is_found_and_a_healthy_one_is_left_alone() -> None:
    assert kinds(train(negative_cosine)) == ["collapse"]
    assert kinds(train(contrast)) == []


def test_views_that_share_one_trait_alone_are_found() -> None:
    assert kinds(train(variance_only, 150, one_trait=True)) == ["dimensional_collapse"]
    assert kinds(train(variance_only, 150)) == []


def test_on_collapse_stop_ends_the_run_with_the_remedy() -> None:
    with pytest.raises(TrainingError, match=r"^step \d+: embedding_std is 0\.0\d+, below 0\.1 at 3 .*training\.lr"):
        run(Alarms({}, "stop"), train(negative_cosine))


def test_only_collapse_ends_a_run() -> None:
    alarms = Alarms({}, "stop")
    assert [alarm.kind for alarm in run(alarms, [*HEALTHY, {"loss": 9.0, "grad_norm": 2.0}])] == ["loss_spike"]
    assert [alarm.kind for step in range(5) for alarm in alarms.check_clocks(step, {"data_wait": 0.9})] == ["starved"]


def test_collapse_must_last() -> None:
    assert kinds(std(0.9, 0.05, 0.05, 0.9, 0.05, 0.05)) == []
    assert kinds(std(0.9, 0.05, 0.05, 0.05)) == ["collapse"]


def test_a_start_with_little_spread_gets_more_time_than_a_fall() -> None:
    assert kinds(std(*[0.02] * 9, 0.2, 0.9)) == []
    assert kinds(std(*[0.02] * 10)) == ["collapse"]


def test_an_alarm_rings_once_until_its_monitor_has_come_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("fewlabel"), "propagate", True)
    low, nearly_back, back = [0.05] * 4, [0.11] * 4, [0.13]
    found = run(Alarms({}, "warn"), std(0.9, *low, *nearly_back, *low, *back, *low))
    assert [alarm.step for alarm in found] == [4, 17]
    said = list(dict.fromkeys(caplog.messages))  # both the logger and the root may have the handler
    assert said == [f"collapse: {alarm.message}" for alarm in found]


def test_a_spike_is_found_at_once_and_a_falling_or_noisy_loss_is_not() -> None:
    assert kinds(HEALTHY) == []
    assert kinds([*HEALTHY, {"loss": 4.5}, {"loss": 4.5}, {"loss": 3.0}]) == ["loss_spike"]
    assert kinds([{"loss": 10 * 0.9**i} for i in range(60)]) == []
    assert kinds([*[{"loss": -1.0}] * 20, {"loss": -0.99}]) == []  # a still one may move by a hundredth
    assert kinds([{"loss": 3.0}] * 5 + [{"loss": 30.0}]) == []  # too little is known


def test_the_spike_limit_is_median_and_scaled_deviation() -> None:
    losses = [1.0, 2.0, 3.0, 4.0, 5.0] * 4  # median 3, median deviation 1
    limit = 3 + 6 * 1.4826
    assert kinds({"loss": loss} for loss in [*losses, limit - 0.01]) == []
    assert kinds({"loss": loss} for loss in [*losses, limit + 0.01]) == ["loss_spike"]


@pytest.mark.parametrize("norm", [50.0, math.inf])
def test_gradients_that_explode_are_found(norm: float) -> None:
    assert kinds([*HEALTHY, *[{"grad_norm": norm}] * 2, *HEALTHY]) == []  # clipping copes with single ones
    assert kinds([*HEALTHY, *[{"grad_norm": norm}] * 3]) == ["gradient_explosion"]


def test_gradients_that_vanish_are_found() -> None:
    assert kinds([*HEALTHY, *[{"grad_norm": 1e-8}] * 2, *HEALTHY]) == []
    assert kinds([*HEALTHY, *[{"grad_norm": 1e-8}] * 3]) == ["vanishing_gradient"]


def test_starved_and_padded_runs_are_told() -> None:
    alarms = Alarms({}, "warn")
    found = [alarm for step in range(1, 4) for alarm in alarms.check_clocks(step, {"data_wait": 0.41, "padding": 0.6})]
    assert [alarm.kind for alarm in found] == ["starved", "padding"]
    assert found[0].message.startswith("step 3: data_wait is 0.41, above 0.3 at 3 checks in a row: ")
    healthy = {"data_wait": 0.1, "padding": 0.2, "samples_per_s": 1e9}
    assert [alarm for step in range(5) for alarm in Alarms({}, "warn").check_clocks(step, healthy)] == []


def test_a_method_has_limits_of_its_own() -> None:
    assert kinds(std(0.9, *[0.05] * 9), {"embedding_std": Limit()}) == []
    teacher = {"teacher_entropy": Limit(high=0.98), "teacher_mean_entropy": Limit(low=0.1)}
    assert kinds([{"teacher_entropy": 0.5}] + [{"teacher_entropy": 1.0}] * 3, teacher) == ["teacher_collapse"]
    assert kinds([{"teacher_mean_entropy": 0.5}] + [{"teacher_mean_entropy": 0.0}] * 3, teacher) == ["teacher_collapse"]
    assert kinds([{"teacher_entropy": 1.0, "teacher_mean_entropy": 0.0}] * 20) == []
    assert kinds([{"queue_age": 5.0}] * 3, {"queue_age": Limit(high=4)}) == ["queue_age_high"]


TROUBLED = [row | extra for row, extra in zip(train(negative_cosine, 30), HEALTHY, strict=True)]
TROUBLED += [*std(0.9), *TROUBLED[-10:], {"loss": 9.0}, *[{"grad_norm": 99.0}] * 5, *HEALTHY, {"loss": 9.0}]


@pytest.mark.parametrize("cut", range(0, len(TROUBLED), 3))
def test_a_resumed_run_alarms_as_an_undisturbed_one(cut: int) -> None:
    undisturbed, before, after = (Alarms({}, "warn") for _ in range(3))
    whole = run(undisturbed, TROUBLED)
    assert [alarm.kind for alarm in whole] == ["collapse", "collapse", "loss_spike", "gradient_explosion", "loss_spike"]
    found = run(before, TROUBLED[:cut])
    before.check_clocks(cut, {"data_wait": 0.9})  # clocks differ from run to run, and must not reach the state
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert found + run(after, TROUBLED[cut:], cut) == whole
    assert after.state_dict() == undisturbed.state_dict()


def test_an_empty_state_is_a_new_run() -> None:
    alarms = Alarms({}, "warn")
    run(alarms, std(0.9, 0.05, 0.05))
    alarms.load_state_dict({})
    assert alarms.state_dict() == Alarms({}, "warn").state_dict()


def test_messages_are_one_line_and_name_keys_that_exist() -> None:
    fields = {
        "training": TrainingConfig.model_fields.keys(),
        "objective": {key for name in OBJECTIVES for key in OBJECTIVES.get(name).Config.model_fields},
        "views": ViewConfig.model_fields.keys(),
        "encoder": TextEncoderConfig.model_fields.keys() | ScanEncoderConfig.model_fields.keys(),
    }
    with pytest.raises(TrainingError) as stopped:
        run(Alarms({}, "stop"), std(*[0.0] * 10))
    texts = [trouble.advice for trouble in [*TROUBLES.values(), SPIKE, EXPLOSION]]
    for text in [*texts, str(stopped.value), nan_message(4, [[7, 8], [9]])]:
        keys = re.findall(r"\b(training|objective|views|encoder)\.(\w+)", text)
        assert "\n" not in text and keys
        assert [f"{section}.{key}" for section, key in keys if key not in fields[section]] == []
    assert "training.on_collapse" in str(stopped.value)


def test_a_loss_that_is_not_finite_names_step_and_samples() -> None:
    assert "at step 5 (samples 7, 8, 9, ...);" in nan_message(4, [[7, 8], [9, 10]])
    assert "at step 1; mostly" in nan_message(0, [])


def test_the_reports_draw_the_floors_that_alarms_go_by() -> None:
    floors = {name: monitor.floor for name, monitor in MONITORS.items() if monitor.floor is not None}
    assert floors == {name: DEFAULT_LIMITS[name].low for name in ("embedding_std", "effective_rank")}
