import logging
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from metrics import (
    CMMD,
    FID,
    KID,
    LPIPS,
    MIND,
    PSNR,
    SSIM,
    CLIPScore,
    Coverage,
    Density,
    FDDINOv2,
    ImageEvaluator,
    ImagePrecision,
    ImageRecall,
    Inception,
    InceptionScore,
    InputError,
    Metric,
    References,
    Unavailable,
    composite_score,
    register,
    unregister,
)
from metrics.features import Features
from metrics.folders import ImageFolder
from metrics.registry import direction
from metrics.table import BUILT_IN, DIRECTIONS

ON_INCEPTION = (FID, KID, MIND, ImagePrecision, ImageRecall, Density, Coverage)


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


class Counted:
    """A function of batches that counts the images it has seen."""

    def __init__(self, function):
        self.function, self.images = function, 0

    def __call__(self, images):
        self.images += len(images)
        return self.function(images)


def offline(*registered, batch_size=4, **settings):
    """An evaluator of all built-in metrics, whose models are small functions of the image, and of registered ones."""

    def embed(images, texts):
        return torch.ones(len(images), 2), torch.ones(len(texts), 2) * torch.tensor([1.0, -0.9])

    def features(images):
        return images.float().mean((2, 3)), images.float().mean((2, 3)) / 4

    inception = Inception(network=Counted(features))
    shared = Features(inception.features, inception)
    models = [
        CLIPScore(embed=embed),
        LPIPS(distance=lambda one, other: (one - other).abs().mean((1, 2, 3))),
        InceptionScore(inception=inception),
        *(kind(features=shared) for kind in ON_INCEPTION),
        CMMD(extractor=lambda images: images.float().std((2, 3))),
    ]
    evaluator = ImageEvaluator(metrics=[*models, "psnr", "ssim", *registered], batch_size=batch_size, **settings)
    evaluator.network = inception.prepare()
    return evaluator


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
    scores = [name for name in BUILT_IN if name != "fd_dinov2"] + ["composite_score"]
    values = ["inception_score_std", *scores, *(f"{name}_se" for name in scores)]
    assert all(type(result[name]) is float and np.isfinite(result[name]) for name in values)
    assert [name for name in result if isinstance(result[name], float) and name in BUILT_IN] == scores[:-1]
    assert result["num_images"] == result["num_references"] == 10
    assert result["left_out"] == {} and result["weights"] == {}


def test_a_metric_of_fewer_images_than_its_floor_is_marked_and_no_part_of_a_guarded_composite():
    given = pictures(10), pictures(10, 1), ["text"] * 10
    guarded, unguarded = offline(guard=True).evaluate(*given), offline().evaluate(*given)
    # The network has three features: ten images suffice for its Frechet distance.
    assert guarded["composite_parts"] == ["clip_score", "lpips", "fid"]
    assert guarded["below_floor"]["inception_score"] == 1000 and "fid" not in guarded["below_floor"]
    assert "without inception_score (below its floor of 1000 images)" in guarded["notes"][-1]
    assert any(
        "mean something from: inception_score 1000, kid 20, cmmd 20, mind 1000" in one for one in guarded["notes"]
    )
    assert unguarded["composite_parts"] == ["clip_score", "inception_score", "lpips", "fid"]
    assert unguarded["composite_score"] == composite_score(unguarded) == composite_score(guarded)
    assert unguarded["below_floor"] == guarded["below_floor"]
    same = [name for name in guarded if not name.startswith("composite") and name not in ("notes", "jackknife")]
    assert all(guarded[name] == unguarded[name] for name in same)


def test_where_the_guard_leaves_no_part_it_says_which_are_few():
    metric = InceptionScore(extractor=lambda images: images.float().mean((2, 3)))
    result = ImageEvaluator(metrics=[metric], guard=True).evaluate(pictures(3))
    assert result["left_out"] == {
        "composite_score": "none of its parts has a value: clip_score, inception_score "
        "(below its floor of 1000 images), lpips, fid"
    }


def one_thing(images):
    """A network with dead units: whatever it sees, it says the same."""
    return torch.full((len(images), 4), 0.25), torch.zeros(len(images), 6)


def of_network(network):
    inception = Inception(network=network)
    shared = Features(inception.features, inception)
    distance = LPIPS(distance=lambda one, other: (one - other).abs().mean((1, 2, 3)))
    metrics = [InceptionScore(inception=inception), *(kind(features=shared) for kind in ON_INCEPTION), distance]
    return ImageEvaluator(metrics=metrics)


def test_a_network_that_says_one_thing_is_said_and_no_part_of_the_composite(caplog):
    with caplog.at_level(logging.WARNING, "metrics"):
        result = of_network(one_thing).evaluate(pictures(6), pictures(8, 1)[:6])
    assert result["inception_score"] == 1 and result["fid"] == pytest.approx(0) and result["left_out"] == {}
    assert result["composite_parts"] == ["lpips"] and result["composite_score"] == pytest.approx(-0.2 * result["lpips"])
    same = "its network's features are the same for all images and references"
    notes = (
        "composite_score: of lpips, without clip_score, inception_score (its network predicts the same for all "
        f"images), fid ({same}); compare it only with composites of the same parts",
        "inception_score: says nothing: its network predicts the same for all images",
        f"fid, kid, mind, image_precision, image_recall, density, coverage: says nothing: {same}",
    )
    assert {*notes} <= {*result["notes"]}
    logged = [record.getMessage() for record in caplog.records if record.name == "metrics"]
    assert logged[0] == "says nothing: inception_score: its network predicts the same for all images"


def test_a_model_that_makes_one_image_is_counted_in_the_composite():
    """The network would tell images apart; that they are all alike is what the scores are to say."""
    result = of_network(lambda images: (images.float().mean((2, 3)), images.float().mean((2, 3)))).evaluate(
        pictures(1).repeat(6, 1, 1, 1), pictures(6, 1)
    )
    assert result["inception_score"] == 1 and result["fid"] > 0
    assert result["composite_parts"] == ["inception_score", "lpips", "fid"]
    assert not [note for note in result["notes"] if "says nothing" in note]


def test_a_network_whose_numbers_are_not_finite_has_no_values():
    def broken(images):
        return images.float().mean((2, 3)) / 0 * 0, torch.full((len(images), 6), float("nan"))

    result = of_network(broken).evaluate(pictures(6), pictures(6, 1))
    assert result["left_out"] == {
        "inception_score": "its network's predictions are not finite",
        **{kind.name: "its network's features are not finite" for kind in ON_INCEPTION},
    }
    assert result["composite_parts"] == ["lpips"]
    nan = LPIPS(distance=lambda one, other: torch.full((len(one),), float("nan")))
    result = ImageEvaluator(metrics=[nan]).evaluate(pictures(2), pictures(2))
    assert result["left_out"]["composite_score"].endswith("clip_score, inception_score, lpips (not finite), fid")


def test_few_images_that_differ_are_not_said_to_say_nothing():
    given = pictures(2), pictures(2, 1), ["text"] * 2
    result = offline().evaluate(*given)
    assert result["composite_parts"] == ["clip_score", "inception_score", "lpips", "fid"]
    assert not [note for note in result["notes"] if "says nothing" in note]


def test_where_an_image_has_no_prompt_the_others_metrics_remain(tmp_path):
    evaluator = offline()
    some = evaluator.evaluate(pictures(6), pictures(6, 1), ["a", None, "c", None, "e", "f"])
    assert some["left_out"] == {"clip_score": "2 of 6 images have no caption (first: image 1)"}
    assert some["lpips"] == evaluator.evaluate(pictures(6), pictures(6, 1), ["a"] * 6)["lpips"]
    for name in "ab":
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    of_folder = offline().evaluate(ImageFolder(tmp_path), prompts=["a", None])
    assert of_folder["left_out"]["clip_score"] == "1 of 2 images have no caption (first: b.png)"
    with pytest.raises(InputError, match="3 images but 2 prompts"):
        evaluator.evaluate(pictures(3), prompts=["a", None])


def test_the_error_of_a_composite_is_that_of_the_composites_without_each_image():
    def mean(images):
        return images.double().mean((1, 2, 3)) / 255

    class Brightness(CLIPScore):
        def values(self, generated, references, prompts):
            return mean(generated)

    images, others = pictures(6), pictures(6, seed=1)
    distance = LPIPS(distance=lambda one, other: (one - other).double().abs().mean((1, 2, 3)))
    metrics = [Brightness(embed=lambda *_: None), distance]
    result = ImageEvaluator(metrics=metrics).evaluate(images, others, ["text"] * 6)
    without = []
    for left_out in range(6):
        kept = [index for index in range(6) if index != left_out]
        few = ImageEvaluator(metrics=metrics).evaluate(images[kept], others[kept], ["text"] * 5)
        assert few["composite_parts"] == ["clip_score", "lpips"]
        without.append(few["composite_score"])
    assert sorted(result["jackknife"]["composite_score"]) == pytest.approx(sorted(without))
    assert result["composite_score_se"] == pytest.approx((5 / 6 * np.square(without - np.mean(without)).sum()) ** 0.5)


def test_the_network_sees_the_same_references_once(tmp_path):
    evaluator, references = offline(), pictures(9, 1)
    first = evaluator.evaluate(pictures(4), references)
    assert evaluator.network.images == 4 + 9
    evaluator.release()
    again = evaluator.evaluate(pictures(4), list(references.numpy()))
    assert evaluator.network.images == 4 + 9 + 4 and again == first
    references[3] //= 2
    changed = evaluator.evaluate(pictures(4), references)
    assert evaluator.network.images == 4 + 9 + 4 + 4 + 9 and changed["fid"] != first["fid"]

    for number, image in enumerate(references):
        Image.fromarray(image.movedim(0, 2).numpy()).save(tmp_path / f"{number}.png")
    of_files = offline()
    for _ in range(2):
        assert of_files.evaluate(pictures(4), ImageFolder(tmp_path))["fid"] == pytest.approx(changed["fid"])
    assert of_files.network.images == 4 + 9 + 4
    os.utime(tmp_path / "3.png", ns=(0, 0))
    of_files.evaluate(pictures(4), ImageFolder(tmp_path))
    assert of_files.network.images == 4 + 9 + 4 + 4 + 9


def test_references_of_an_evaluation_that_failed_are_not_taken_for_known():
    evaluator = offline()
    broken = [*pictures(5, 1).numpy(), np.ones((3, 32, 32)) * 9]
    with pytest.raises(InputError):
        evaluator.evaluate(pictures(4), broken)
    assert evaluator.evaluate(pictures(4), broken[:5]) == offline().evaluate(pictures(4), broken[:5])


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


def test_references_of_another_number_are_a_set():
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
    assert logged == ["left out: clip_score, lpips, inception_score, fid: its weights are not on this machine"]
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
    assert [name for name in result if isinstance(result[name], float)] == ["psnr", "psnr_se", "brightness", "count"]
    assert result["brightness"] == pytest.approx(pictures(2).double().mean().item() / 255)


def test_a_ready_metric_replaces_the_built_in_of_its_name():
    class Halved(PSNR):
        def values(self, generated, references, prompts):
            return super().values(generated, references, prompts) / 2

    assert ImageEvaluator(metrics=[Halved()]).evaluate(pictures(2), pictures(2))["psnr"] == 50


def test_the_table_has_what_the_classes_say(own):
    made = [CLIPScore(), LPIPS(), InceptionScore(), CMMD(), FDDINOv2("file"), PSNR(), SSIM()]
    made += [kind() for kind in ON_INCEPTION]
    assert {one.name: one.higher_is_better for one in made} == {
        name: info.higher_is_better for name, info in BUILT_IN.items()
    }
    floors = {one.name: one.floor for one in made if one.floor > 1}
    assert floors == {
        "inception_score": 1000,
        "fid": 2049,
        "kid": 20,
        "cmmd": 20,
        "mind": 1000,
        "image_precision": 1000,
        "image_recall": 1000,
        "density": 1000,
        "coverage": 1000,
        "fd_dinov2": 1025,
    }
    own("less", lambda *_: 0.0, False)
    assert direction("less") is False and direction("inception_score_std") is direction("fid_se") is None
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
        ({"metrics": [OutOfReach("mine_se")]}, "the name 'mine_se' is taken"),
        ({"metrics": ["fd_dinov2"]}, "needs a file of weights"),
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
