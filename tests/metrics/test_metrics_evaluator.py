import logging
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from metrics import (
    FID,
    LPIPS,
    PSNR,
    SSIM,
    CLIPScore,
    ImageEvaluator,
    Inception,
    InceptionScore,
    InputError,
    Metric,
    References,
    Unavailable,
    register,
    unregister,
)
from metrics.registry import direction
from metrics.table import BUILT_IN, DIRECTIONS


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


def offline(*registered, batch_size=4):
    """An evaluator of all built-in metrics, whose models are small functions of the image, and of registered ones."""

    def embed(images, texts):
        return torch.ones(len(images), 2), torch.ones(len(texts), 2) * torch.tensor([1.0, -0.9])

    def features(images):
        return images.float().mean((2, 3)), images.float().mean((2, 3)) / 4

    inception = Inception(network=features)
    models = [
        CLIPScore(embed=embed),
        LPIPS(distance=lambda one, other: (one - other).abs().mean((1, 2, 3))),
        InceptionScore(inception=inception),
        FID(inception=inception),
    ]
    return ImageEvaluator(metrics=[*models, "psnr", "ssim", *registered], batch_size=batch_size)


class OutOfReach(Metric):
    """A metric whose weights cannot be had; it counts how often they were asked for."""

    higher_is_better = True

    def __init__(self, name):
        self.name, self.asked = name, 0

    def prepare(self):
        self.asked += 1
        raise Unavailable("its weights are not on this machine")

    def update(self, generated, references=None, prompts=None):
        raise AssertionError

    def compute(self):
        raise AssertionError

    def reset(self):
        raise AssertionError


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
    assert offline(batch_size=1).evaluate(images.double() / 255, references)["fid"] == pytest.approx(expected["fid"])


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
    missing = ("clip_score", "lpips", "inception_score", "fid")
    evaluator = ImageEvaluator(metrics=[*map(OutOfReach, missing), "psnr"])
    with caplog.at_level(logging.WARNING, "metrics"):
        first = evaluator.evaluate(pictures(2), pictures(2), ["a", "b"])
        again = evaluator.evaluate(pictures(2), pictures(2), ["a", "b"])
    logged = [record.getMessage() for record in caplog.records if record.name == "metrics"]
    assert sorted(line.split()[0] for line in logged) == sorted(missing)
    assert first["left_out"] == again["left_out"] and first["left_out"].keys() == {*missing, "composite_score"}
    assert "not on this machine" in first["left_out"]["clip_score"]
    assert first["psnr"] == 100 and not {*missing} & first.keys()


def test_out_of_reach_is_asked_once_until_release():
    metric = OutOfReach("lpips")
    evaluator = ImageEvaluator(metrics=[metric])
    for _ in range(3):
        evaluator.evaluate(pictures(1), pictures(1))
    assert metric.asked == 1
    evaluator.release()
    evaluator.evaluate(pictures(1), pictures(1))
    assert metric.asked == 2


def test_random_states_are_untouched(own):
    own("careless", lambda *_: random.random() + np.random.rand() + torch.rand(1).item(), True)
    evaluator = offline("careless")
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
    result = offline("count", "class", "instance").evaluate(white, pictures(5), list("abcde"))
    assert result["count"] == 5.0 and result["class"] == result["instance"] == 1.0
    assert "count" in result["composite_parts"] and "class" not in result["composite_parts"]
    (images, references, prompts) = seen[0]
    assert len(images) == len(references) == 5 and images[0].shape == (3, 12, 12) and prompts == list("abcde")


def test_a_metric_of_ones_own_may_be_unavailable_or_fail(own):
    def unavailable(*_):
        raise Unavailable("not on Sundays")

    own("sunday", unavailable, True)
    assert offline("sunday").evaluate(pictures(2))["left_out"]["sunday"] == "not on Sundays"
    own("sunday", lambda *_: 1 / 0, True)
    with pytest.raises(ZeroDivisionError):
        offline("sunday").evaluate(pictures(2))


def test_names_and_ready_metrics_are_taken_together(own):
    own("count", lambda images, *_: len(images), True)
    result = ImageEvaluator(metrics=[Brightness(), "psnr", "count"]).evaluate(pictures(2), pictures(2))
    assert [name for name in result if isinstance(result[name], float)] == ["psnr", "brightness", "count"]
    assert result["brightness"] == pytest.approx(pictures(2).double().mean().item() / 255)


def test_a_ready_metric_replaces_the_built_in_of_its_name():
    class Halved(PSNR):
        def values(self, generated, references, prompts):
            return super().values(generated, references, prompts) / 2

    assert ImageEvaluator(metrics=[Halved()]).evaluate(pictures(2), pictures(2))["psnr"] == 50


def test_the_table_has_what_the_classes_say(own):
    classes = [CLIPScore, LPIPS, InceptionScore, FID, PSNR, SSIM]
    assert [(one.name, one.higher_is_better) for one in classes] == [
        (name, info.higher_is_better) for name, info in BUILT_IN.items()
    ]
    own("less", lambda *_: 0.0, False)
    assert direction("less") is False and direction("inception_score_std") is None
    assert {name: direction(name) for name in DIRECTIONS} == DIRECTIONS


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
        ({"metrics": ["psnr", PSNR()]}, "two metrics have the name 'psnr'"),
        ({"metrics": [OutOfReach("notes")]}, "the name 'notes' is taken"),
        ({"metrics": [PSNR]}, "by its name or as a metrics.Metric, not as ABCMeta"),
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
    code = (
        "import sys, metrics, metrics.table, metrics.folders; from metrics import register, composite_score; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
