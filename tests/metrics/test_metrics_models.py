"""Metrics through real or tiny models: LPIPS, Inception, CLIP, and the pixel metrics."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from no_network import no_weights
from PIL import Image, ImageFilter

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
    Unavailable,
)
from metrics.images import to_image
from metrics.lpips_distance import _address
from metrics.weights import hub_file, read_state

ASSETS = Path(os.environ.get("DPLOSS_TEST_ASSETS", ROOT.parent / "shared"))
ALEXNET = ASSETS / "weights" / "alexnet_features.pth"
INCEPTION = ASSETS / "weights" / "inception_v3_test_only.pth"


def asset(path):
    return pytest.mark.skipif(not path.is_file(), reason=f"{path} is not there (DPLOSS_TEST_ASSETS)")


def scenes(count, size=64, seed=0):
    """Smooth pictures with edges."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.random((count, 3, 6, 6))).float()
    smooth = F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    smooth[:, :, size // 4 : size // 2, size // 3 :] *= 0.4
    return (smooth * 255).byte()


def noisy(images, amount, seed=1):
    noise = np.random.default_rng(seed).normal(0, amount, images.shape)
    return torch.from_numpy((images.numpy() + noise).clip(0, 255).astype(np.uint8))


def blurred(images, radius):
    pictures = [Image.fromarray(image.movedim(0, 2).numpy()) for image in images]
    return torch.stack([to_image(picture.filter(ImageFilter.GaussianBlur(radius))) for picture in pictures])


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    no_weights(monkeypatch, tmp_path)


@asset(ALEXNET)
def test_lpips_equals_the_package_and_grows_with_blur_and_noise():
    import lpips

    images = scenes(4)
    metric = LPIPS(weights=ALEXNET)
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = read_state(ALEXNET)
    theirs.net.load_state_dict({key: state["features." + key.split(".", 1)[1]] for key in theirs.net.state_dict()})
    other = noisy(images, 20)
    with torch.no_grad():
        expected = theirs(images / 255, other / 255, normalize=True).mean().item()
    assert metric.measure(images, other, batch_size=3) == pytest.approx(expected, rel=1e-5)
    assert metric.measure(images, images) == 0
    by_blur = [metric.measure(blurred(images, radius), images) for radius in (0.5, 1, 2, 4)]
    by_noise = [metric.measure(noisy(images, amount), images) for amount in (5, 15, 40, 80)]
    assert by_blur == sorted(by_blur) and by_noise == sorted(by_noise) and by_blur[0] > 0 < by_noise[0]
    assert metric.weights()["sha256"].startswith("e56b73d8ee3f")
    with pytest.raises(Unavailable, match="31 x 31"):
        metric.measure(images[:, :, :20], images[:, :, :20])


@asset(ALEXNET)
def test_a_reference_of_another_size_is_brought_to_the_images_size():
    images = scenes(2)
    metric = LPIPS(weights=ALEXNET)
    larger = [Image.fromarray(image.movedim(0, 2).numpy()).resize((128, 128)) for image in images]
    assert 0 < metric.measure(images, larger) < 0.1


def test_other_files_are_not_taken_for_weights(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        LPIPS(weights=tmp_path / "gone.pth").prepare()
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"not the weights of alex: no features\.0\.weight"):
        LPIPS(weights=tmp_path / "other.pth").prepare()
    with pytest.raises(InputError, match="not the weights of Inception"):
        Inception(tmp_path / "other.pth").prepare()
    with pytest.raises(InputError, match="nets alex, vgg, squeeze"):
        LPIPS("resnet")


def test_weights_of_another_file_are_said_to_give_other_values(tmp_path, monkeypatch):
    images, network = scenes(3), torch.nn.Identity()
    monkeypatch.setattr("metrics.inception._network", lambda path: network)
    monkeypatch.setattr("metrics.lpips_distance._network", lambda net, path: network)
    monkeypatch.setattr(network, "forward", lambda *batches: (batches[0].float().mean((2, 3)),) * 2)
    monkeypatch.setattr(
        "metrics.lpips_distance.LPIPS.values", lambda self, one, other, prompts: one.float().mean((1, 2, 3))
    )
    path = tmp_path / "mine.pth"
    path.write_bytes(b"weights of one's own")
    settings = {"metrics": ["lpips", "fid", "kid"], "inception_weights": path, "lpips_weights": path}
    other = "not comparable with published values, unless these weights equal those of"
    notes = ImageEvaluator(**settings).evaluate(images, images)["notes"]
    assert f"fid, kid: {other} weights-inception-2015-12-05-6726825d.pth" in notes
    assert f"lpips: {other} alexnet-owt-7be5be79.pth" in notes
    assert (
        f"lpips: {other} vgg16-397923af.pth"
        in ImageEvaluator(lpips_net="vgg", **settings).evaluate(images, images)["notes"]
    )
    # The published files, as far as their names tell.
    for digest, names in (("6726825d0af5", "lpips"), ("7be5be79aa55", "fid, kid")):
        monkeypatch.setattr("metrics.weights.sha256", lambda path, digest=digest: digest)
        said = [note for note in ImageEvaluator(**settings).evaluate(images, images)["notes"] if other in note]
        assert [note.split(":")[0] for note in said] == [names]


def test_the_published_weights_are_those_that_the_packages_download():
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    assert URL_INCEPTION_V3.endswith(f"/{FID().published_weights()}")
    for net in ("alex", "vgg", "squeeze"):
        assert _address(net).endswith(f"/{LPIPS(net).published_weights()}")
    assert InceptionScore().published_weights() == FID().published_weights()
    assert PSNR().published_weights() is FID(extractor=lambda images: images).published_weights() is None


class Harm:
    """Something whose unpickling leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


def test_code_in_a_file_of_weights_is_never_run(tmp_path, clip_file):
    (tmp_path / "bad.pth").write_bytes(pickle.dumps({"a": Harm(tmp_path / "trace")}))
    torch.save({"a": Harm(tmp_path / "trace")}, tmp_path / "zip.pth")
    for name in ("bad.pth", "zip.pth"):
        for metric in (LPIPS(weights=tmp_path / name), FID(weights=tmp_path / name)):
            with pytest.raises(InputError, match="plain weights"):
                metric.prepare()
        with pytest.raises(InputError, match="not the weights"):
            CLIPScore("tiny-test", tmp_path / name).prepare()
    assert not (tmp_path / "trace").exists()


def test_weights_out_of_reach_are_said(no_network):
    for metric in (LPIPS(), FID(), InceptionScore(), CLIPScore()):
        with pytest.raises(Unavailable, match="not on this machine"):
            metric.prepare()


def test_weights_out_of_reach_are_asked_for_once_for_all_metrics(monkeypatch):
    asked = []

    def unreachable(url):
        asked.append(url)
        raise Unavailable("not on this machine")

    monkeypatch.setattr("metrics.inception.hub_file", unreachable)
    inception = Inception()
    for _ in range(2):
        for metric in (FID(inception=inception), InceptionScore(inception=inception)):
            with pytest.raises(Unavailable, match="not on this machine"):
                metric.prepare()
    assert len(asked) == 1
    inception.release()
    with pytest.raises(Unavailable):
        inception.prepare()
    assert len(asked) == 2


def test_a_wrong_file_in_the_cache_is_found(no_network):
    path = Path(torch.hub.get_dir(), "checkpoints", "net-01234567.pth")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="its SHA-256 is not the one in its name"):
        hub_file("https://example.org/net-01234567.pth")


@pytest.fixture(scope="module")
def inception():
    return Inception(INCEPTION)


@asset(INCEPTION)
def test_fid_through_the_real_network(inception):
    images = scenes(4, 48)
    fid = FID(inception=inception)
    same = fid.measure(images, images)
    apart = [fid.measure(noisy(images, amount), images) for amount in (20, 80)]
    assert same == pytest.approx(0, abs=1e-6) and same < apart[0] < apart[1]
    assert fid.weights()["source"] == str(INCEPTION)
    score = InceptionScore(inception=inception)
    assert score.measure(images) == pytest.approx(1)


@asset(INCEPTION)
def test_two_metrics_run_the_network_once(inception):
    images = scenes(1)
    calls = []
    counting = Inception(network=lambda batch: calls.append(len(batch)) or inception(batch))
    features, logits = counting.features(images), counting.logits(images)
    assert calls == [1] and features.shape == (1, 2048) and logits.shape == (1, 1008)


TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    """The weights of a tiny CLIP model, known to open_clip as tiny-test."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-test.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-test.json")
    torch.manual_seed(3)
    torch.save(open_clip.create_model("tiny-test").state_dict(), folder / "tiny.pt")
    return folder / "tiny.pt"


def test_clip_score_equals_a_plain_computation(clip_file):
    import open_clip

    images, texts = scenes(5, 40), ["a cat", "two dogs", "red", "blue sky", "x"]
    model, _, preprocess = open_clip.create_model_and_transforms("tiny-test", pretrained=str(clip_file))
    model.eval()
    scores = []
    for image, text in zip(images, texts, strict=True):
        with torch.no_grad():
            seen = model.encode_image(preprocess(Image.fromarray(image.movedim(0, 2).numpy()))[None])[0].numpy()
            read = model.encode_text(open_clip.tokenize([text]))[0].numpy()
        scores.append(2.5 * max(seen @ read / np.linalg.norm(seen) / np.linalg.norm(read), 0))
    metric = CLIPScore("tiny-test", clip_file)
    assert metric.measure(images, prompts=texts, batch_size=2) == pytest.approx(min(np.mean(scores), 1), abs=1e-5)
    assert metric.weights()["source"] == str(clip_file)


def test_clip_score_takes_a_folder(clip_file, tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
    with pytest.raises(InputError, match="one weight file expected"):
        CLIPScore(pretrained=f"local-dir:{tmp_path}").prepare()
    torch.save(torch.load(clip_file, weights_only=True), tmp_path / "tiny.pth")
    images, texts = scenes(2, 32), ["a", "b"]
    from_folder = CLIPScore(pretrained=f"local-dir:{tmp_path}").measure(images, prompts=texts)
    assert from_folder == CLIPScore("tiny-test", clip_file).measure(images, prompts=texts)


def test_a_tag_is_taken_from_the_cache_without_network(clip_file, no_network, monkeypatch):
    grey = {"hf_hub": "someone/tiny/", "mean": (0.5,) * 3, "std": (0.25,) * 3, "quick_gelu": True}
    cached = {("someone/tiny", "open_clip_pytorch_model.bin"): str(clip_file)}
    monkeypatch.setattr("open_clip.pretrained.get_pretrained_cfg", lambda model, tag: grey)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: cached.get(names))
    metric = CLIPScore("tiny-test", "some_tag")
    by_tag = metric.measure(scenes(2), prompts=["a", "b"])
    assert metric.weights()["source"] == str(clip_file)
    assert by_tag != CLIPScore("tiny-test", clip_file).measure(scenes(2), prompts=["a", "b"])
    cached.clear()
    with pytest.raises(Unavailable, match="cannot be reached"):
        CLIPScore("tiny-test", "some_tag").prepare()


@pytest.mark.parametrize("weights", ["", None])
def test_random_clip_weights_are_refused(weights):
    with pytest.raises(InputError, match="needs pretrained weights"):
        CLIPScore(pretrained=weights)


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        ("ViT-B-32", "no_such_tag", "neither a file nor a tag of ViT-B-32; its tags: .*laion2b_s34b_b79k"),
        ("ViT-B-32", "gone/file.pt", "no such file"),
        ("ViT-Z", "openai", "no model 'ViT-Z'"),
        ("ViT-B-32", "local-dir:gone", "no folder"),
    ],
)
def test_a_wrong_clip_model_is_said(model, weights, message):
    with pytest.raises(InputError, match=message):
        CLIPScore(model, weights).prepare()


@pytest.mark.parametrize(("cosine", "score"), [(1.0, 1.0), (0.2, 0.5), (-0.5, 0.0)])
def test_clip_score_is_two_and_a_half_cosines_within_0_and_1(cosine, score):
    def embed(images, texts):
        return torch.tensor([[2.0, 0.0]]), torch.tensor([[cosine, np.sqrt(1 - cosine**2)]])

    assert CLIPScore(embed=embed).measure(scenes(1), prompts=["a"]) == pytest.approx(score, abs=1e-6)
    with pytest.raises(Unavailable, match="prompts"):
        CLIPScore(embed=embed).measure(scenes(1))
    with pytest.raises(InputError, match="1 images but 2 prompts"):
        CLIPScore(embed=embed).measure(scenes(1), prompts=["a", "b"])


def test_psnr_and_ssim():
    images = scenes(3)
    assert PSNR().measure(images, images) == 100 and SSIM().measure(images, images) == pytest.approx(1)
    other = noisy(images, 30)
    errors = ((images.double() - other.double()) ** 2).mean((1, 2, 3))
    assert PSNR().measure(other, images) == pytest.approx((10 * torch.log10(255**2 / errors)).mean().item())
    assert PSNR().measure(torch.zeros(1, 3, 9, 9).byte(), torch.full((1, 3, 9, 9), 255).byte()) < 1e-5
    by_noise = [SSIM().measure(noisy(images, amount), images) for amount in (5, 20, 60)]
    assert by_noise == sorted(by_noise, reverse=True)
    with pytest.raises(Unavailable, match="11 x 11"):
        SSIM().measure(images[:, :, :8], images[:, :, :8])


def test_a_models_place_can_be_taken():
    def distance(first, second):
        assert first.dtype == torch.float32 and first.min() >= -1 and first.max() <= 1
        return (first - second).abs().mean((1, 2, 3))

    black, white = torch.zeros(2, 3, 8, 8).byte(), torch.full((2, 3, 8, 8), 255).byte()
    assert LPIPS(distance=distance).measure(black, white) == 2
    network = Inception(network=lambda images: (images.float().mean((2, 3)), torch.eye(2)))
    assert InceptionScore(inception=network).measure(black) > 1
    assert FID(inception=network).measure(white, black) > 0
