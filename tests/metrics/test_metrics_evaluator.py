import logging
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from metrics import ImageEvaluator, InputError, Metric, References, Unavailable, register, unregister
from metrics.inception import Activations


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    def refuse(url):
        raise Unavailable("its weights are not on this machine")

    monkeypatch.setattr("metrics.clip_score.require_network", refuse)
    monkeypatch.setattr("metrics.weights.require_network", refuse)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))


@pytest.fixture
def own():
    """Registers, and forgets afterwards."""
    names = []

    def add(name, *settings, **more):
        register(name, *settings, **more)
        names.append(name)

    yield add
    for name in set(names):
        unregister(name)


def pictures(count, seed=0, size=32):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def offline():
    """An evaluator whose models are replaced by small functions of the picture."""
    evaluator = ImageEvaluator(batch_size=4)
    metrics = evaluator._built_in
    metrics["clip_score"]._given = metrics["clip_score"]._embed = lambda images, texts: (
        torch.ones(len(images), 2),
        torch.ones(len(texts), 2) * torch.tensor([1.0, -0.9]),
    )
    metrics["lpips"]._given = metrics["lpips"]._distance = lambda one, other: (one - other).abs().mean((1, 2, 3))
    inception = metrics["fid"]._inception
    inception._given = inception._network = lambda images: Activations(
        images.float().mean((2, 3)), images.float().mean((2, 3)) / 4
    )
    return evaluator


def test_all_metrics_in_one_plain_dictionary():
    result = offline().evaluate(pictures(10), pictures(10, 1), ["text"] * 10)
    scores = ["clip_score", "lpips", "inception_score", "inception_score_std", "fid", "psnr", "ssim", "composite_score"]
    assert all(type(result[name]) is float and np.isfinite(result[name]) for name in scores)
    assert result["num_images"] == result["num_references"] == 10
    assert result["left_out"] == {} and result["weights"] == {}
    assert result["composite_parts"] == ["clip_score", "inception_score", "lpips", "fid"]
    assert len(result["notes"]) == 2


def test_batches_and_kinds_of_images_make_no_difference():
    images, references = pictures(6), pictures(6, 1)
    expected = offline().evaluate(images, references)
    as_pil = [Image.fromarray(image.movedim(0, 2).numpy()) for image in images]
    assert offline().evaluate(as_pil, list(references.movedim(1, 3).numpy())) == expected
    evaluator = offline()
    evaluator._batch_size = 1
    assert evaluator.evaluate(images.double() / 255, references)["fid"] == pytest.approx(expected["fid"])


def test_images_of_mixed_sizes_keep_their_references():
    images = [*pictures(3), *pictures(3, 2, 40)][::-1]
    images[1], images[4] = images[4], images[1]
    result = offline().evaluate(images, images)
    assert result["psnr"] == 100 and result["lpips"] == 0


def test_a_set_of_references_is_for_fid_alone():
    result = offline().evaluate(pictures(4), pictures(9, 1))
    assert result["fid"] > 0 and result["num_references"] == 9
    assert result["left_out"]["psnr"] == "4 images but 9 references make no pairs"
    assert "psnr" not in result and "lpips" not in result
    apart = References(pictures(9, 1), pictures(4))
    assert offline().evaluate(pictures(4), apart)["psnr"] == 100


def test_a_reason_is_logged_once_and_always_reported(caplog):
    evaluator = ImageEvaluator()
    with caplog.at_level(logging.WARNING, "metrics"):
        first = evaluator.evaluate(pictures(2), pictures(2), ["a", "b"])
        again = evaluator.evaluate(pictures(2), pictures(2), ["a", "b"])
    logged = [record.getMessage() for record in caplog.records if record.name == "metrics"]
    missing = {"clip_score", "lpips", "inception_score", "fid"}
    assert sorted(line.split()[0] for line in logged) == sorted(missing)
    assert first["left_out"] == again["left_out"] and first["left_out"].keys() == missing | {"composite_score"}
    assert "not on this machine" in first["left_out"]["clip_score"]
    assert first["psnr"] == 100 and not missing & first.keys()


def test_out_of_reach_is_asked_once_until_release(monkeypatch):
    evaluator, asked = ImageEvaluator(metrics=["lpips"]), []

    def refuse(url):
        asked.append(url)
        raise Unavailable("no network")

    monkeypatch.setattr("metrics.weights.require_network", refuse)
    for _ in range(3):
        evaluator.evaluate(pictures(1), pictures(1))
    assert len(asked) == 1
    evaluator.release()
    evaluator.evaluate(pictures(1), pictures(1))
    assert len(asked) == 2


def test_random_states_are_untouched(own):
    own("careless", lambda *_: random.random() + np.random.rand() + torch.rand(1).item(), True)
    evaluator = offline()
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    evaluator.evaluate(pictures(3), pictures(3), ["a"] * 3)
    assert random.getstate() == before[0] and np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_images_are_untouched_and_gradients_off():
    images = pictures(3).float().div(255).requires_grad_()
    before = images.detach().clone()
    offline().evaluate(images, images)
    assert torch.equal(images.detach(), before) and torch.is_grad_enabled()


class Brightness(Metric):
    name = "brightness"
    higher_is_better = True

    def update(self, generated, references=None, prompts=None):
        self.values += (generated.double().mean((1, 2, 3)) / 255).tolist()

    def compute(self):
        return float(np.mean(self.values))

    def reset(self):
        self.values = []


def test_metrics_of_ones_own_are_in_the_result(own):
    seen = []
    own("count", lambda *given: seen.append(given) or len(given[0]), True, weight=1.0, scale=lambda value: value / 10)
    own("class", Brightness, True)
    own("instance", Brightness(), True)
    white = torch.ones(5, 3, 12, 12)
    result = offline().evaluate(white, pictures(5), list("abcde"))
    assert result["count"] == 5.0 and result["class"] == result["instance"] == 1.0
    assert "count" in result["composite_parts"] and "class" not in result["composite_parts"]
    (images, references, prompts) = seen[0]
    assert len(images) == len(references) == 5 and images[0].shape == (3, 12, 12) and prompts == list("abcde")


def test_a_metric_of_ones_own_may_be_unavailable_or_fail(own):
    def unavailable(*_):
        raise Unavailable("not on Sundays")

    own("sunday", unavailable, True)
    assert offline().evaluate(pictures(2))["left_out"]["sunday"] == "not on Sundays"
    own("sunday", lambda *_: 1 / 0, True)
    with pytest.raises(ZeroDivisionError):
        offline().evaluate(pictures(2))


def test_only_the_chosen_metrics():
    result = ImageEvaluator(metrics=["psnr"]).evaluate(pictures(2), pictures(2))
    assert result["psnr"] == 100 and "ssim" not in result and result["left_out"].keys() == {"composite_score"}


def test_images_too_small_for_one_metric_leave_the_others():
    result = ImageEvaluator(metrics=["psnr", "ssim"]).evaluate(pictures(2, size=8), pictures(2, size=8))
    assert result["psnr"] == 100 and "11 x 11" in result["left_out"]["ssim"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ["fidd"]}, "no metric has the name 'fidd'; there are clip_score"),
        ({"device": "abacus"}, "device abacus"),
        ({"lpips_net": "resnet"}, "nets"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_wrong_settings_are_said_at_once(settings, message):
    with pytest.raises(InputError, match=message):
        ImageEvaluator(**settings)


def test_wrong_images_are_said():
    with pytest.raises(InputError, match="no images"):
        offline().evaluate([])
    with pytest.raises(InputError, match="2 images but 3 prompts"):
        offline().evaluate(pictures(2), prompts=["a"] * 3)
    with pytest.raises(InputError, match="image of the references, 1: "):
        offline().evaluate(pictures(2), [np.zeros((32, 32)), np.ones((32, 32)) * 9])


def test_the_package_is_there_without_torch():
    code = "import sys, metrics; from metrics import register, composite_score; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
