"""The encoder of clips and captions: against open_clip, on masks, order, gradients and bad input."""

import json

import pytest
import torch
import torch.nn.functional as F

from t2v_mini.configs import ClipConfig
from t2v_mini.metrics.alignment import preferred, recall_at
from t2v_mini.models.text_video import TemporalHead, TextVideoEncoder, mini_clip, open_clip_encoder
from t2v_mini.world import render, sample_scenes

SMALL = ClipConfig(
    frames=8,
    patch=8, width=32, depth=1, heads=2, text_width=32, text_heads=2, text_depth=1, embed=24,
    temporal_depth=1, temporal_heads=2,
)  # fmt: skip
TOY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 48, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
CAPTIONS = ["a small red circle moves left", "a blue square"]


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return mini_clip(SMALL).eval()


@pytest.fixture(scope="module")
def toy_name(tmp_path_factory):
    """A tiny model that open_clip knows by name, as it knows ViT-B-32."""
    import open_clip

    path = tmp_path_factory.mktemp("open_clip") / "toy-clip.json"
    path.write_text(json.dumps(TOY))
    open_clip.add_model_config(path)
    return "toy-clip"


def video(batch=2, frames=8, size=32):
    return torch.rand(batch, 3, frames, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def stir(head):
    torch.nn.init.normal_(head.out.weight, std=0.3)
    return head


@torch.no_grad()
def test_starts_as_mean_pooled_open_clip(toy_name):
    """With the zero-initialised head: open_clip's own transform and encode_image, averaged over frames."""
    import open_clip
    from torchvision.transforms.functional import to_pil_image

    encoder = open_clip_encoder(toy_name).eval()
    clip = render(sample_scenes(1, 1), 8, 64, 64)
    transform = open_clip.image_transform(
        48, is_train=False, mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD
    )
    images = [to_pil_image((frame + 1) / 2) for frame in clip[0].transpose(0, 1)]
    # open_clip's images are rounded to 8 bits before and after the resize.
    theirs = torch.stack([transform(image) for image in images])
    assert (encoder.preprocess(clip) - theirs).abs().max() < 0.03
    features = encoder.clip.encode_image(encoder.preprocess(clip))
    assert torch.allclose(encoder.encode_video(clip), features.mean(0, keepdim=True), atol=1e-5)


def test_samples_and_frames_do_not_mix_by_mistake(encoder):
    """A frame moves its own clip, and no other clip of the batch."""
    stir(encoder.head)
    clip = video()
    changed = clip.clone()
    changed[0, :, 3] *= -1
    before, after = encoder.encode_video(clip), encoder.encode_video(changed)
    assert (before[0] - after[0]).abs().max() > 1e-3
    assert torch.allclose(before[1], after[1], atol=1e-6)


def test_order_counts_only_with_a_trained_head(encoder):
    clip = video()
    assert torch.allclose(encoder.encode_video(clip), encoder.encode_video(clip.flip(2)), atol=1e-5)
    stir(encoder.head)
    assert (encoder.encode_video(clip) - encoder.encode_video(clip.flip(2))).abs().max() > 1e-3


def test_padding_frames_change_nothing(encoder):
    stir(encoder.head)
    clip = video(frames=5)
    padded = torch.cat([clip, torch.full((2, 3, 3, 32, 32), 0.7)], dim=2)
    mask = torch.arange(8).expand(2, 8) < 5
    assert torch.allclose(encoder.encode_video(clip), encoder.encode_video(padded, mask), atol=1e-5)
    assert not torch.allclose(encoder.encode_video(clip), encoder.encode_video(padded), atol=1e-3)


def test_long_clips_are_sampled_evenly(encoder):
    clip = video(frames=16)
    picked = clip[:, :, [0, 2, 4, 6, 9, 11, 13, 15]]
    assert torch.equal(encoder.encode_video(clip), encoder.encode_video(picked))


def test_frames_are_picked_among_the_real_ones_only(encoder):
    """However long the padding, and wherever it stands, the same real frames are looked at."""
    stir(encoder.head)
    clip = video(frames=12)
    padded = torch.cat([torch.full((2, 3, 2, 32, 32), 0.7), clip, torch.full((2, 3, 7, 32, 32), 0.3)], dim=2)
    mask = torch.zeros(2, 21, dtype=torch.bool)
    mask[:, 2:14] = True
    mask[1, 5:] = False  # three real frames, fewer than are looked at
    short = encoder.encode_video(clip[1:, :, :3])
    found = encoder.encode_video(padded, mask)
    assert torch.allclose(found[0], encoder.encode_video(clip)[0], atol=1e-5)
    assert torch.allclose(found[1], short[0], atol=1e-5)


def test_frozen_towers_pass_gradients_and_stay_in_evaluation_mode(toy_name):
    encoder = open_clip_encoder(toy_name).train()
    assert not encoder.clip.training and encoder.head.training
    assert not any(p.requires_grad for p in encoder.clip.parameters())
    clip = video(1, 3, 48).requires_grad_()
    encoder.similarity(clip, CAPTIONS).sum().backward()
    assert clip.grad.abs().sum() > 0
    assert all(p.grad is None for p in encoder.clip.parameters())
    trained = open_clip_encoder(toy_name, frozen=False).train()
    assert trained.clip.training and all(p.requires_grad for p in trained.clip.parameters())


def test_preprocessing_resizes_crops_and_normalises(encoder):
    wide = torch.full((1, 3, 2, 64, 96), 0.5)
    frames = encoder.preprocess(wide)
    assert frames.shape == (2, 3, 32, 32)
    assert torch.allclose(frames, torch.full_like(frames, 0.5), atol=1e-5)  # mean 0.5 and deviation 0.5
    exact = video(1, 2, 32)
    assert torch.allclose(encoder.preprocess(exact), exact[0].transpose(0, 1), atol=1e-6)


def test_text_ignores_padding_and_reads_order(encoder):
    alone = encoder.encode_text(CAPTIONS[1:])
    assert torch.allclose(alone, encoder.encode_text(CAPTIONS)[1:], atol=1e-5)
    ab, ba = encoder.encode_text(
        ["a red circle is left of a blue square", "a blue circle is left of a red square"]
    )
    assert (ab - ba).abs().max() > 1e-4


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_loads_checkpoints_of_open_clip(toy_name, tmp_path, suffix):
    """The road on which real weights come: a file in open_clip's own format."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(3)
    source = open_clip.create_model(toy_name)
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save(source.state_dict(), path)
    else:
        save_file(source.state_dict(), path)
    loaded = open_clip_encoder(toy_name, path)
    for name, value in source.state_dict().items():
        assert torch.equal(loaded.clip.state_dict()[name], value)
    assert loaded.similarity(video(1), ["a dog", "a cat"]).shape == (1, 2)


def test_pickles_are_not_trusted(toy_name, tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('executed')",))

    path = tmp_path / "evil.pt"
    torch.save({"a": Evil()}, path)
    with pytest.raises(ValueError, match="pretrained must"):
        open_clip_encoder(toy_name, path)


def test_head_equals_pytorch_with_copied_weights():
    """One layer by hand: pre-norm attention and feed-forward, both added."""
    torch.manual_seed(0)
    head = stir(TemporalHead(24, 2, 1, 8)).eval()
    x = torch.randn(2, 6, 24)
    layer = head.encoder.layers[0]
    h = x + head.positions[:6]
    normed = layer.norm1(h)
    q, k, v = F.linear(normed, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias).chunk(3, -1)
    q, k, v = (z.unflatten(-1, (2, 12)).transpose(1, 2) for z in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    h = h + layer.self_attn.out_proj(mixed)
    h = h + layer.linear2(F.gelu(layer.linear1(layer.norm2(h))))
    expected = x + head.out(head.encoder.norm(h))
    assert torch.allclose(head(x, torch.ones(2, 6).bool()), expected, atol=1e-5)


def test_recall():
    perfect = torch.eye(4)
    assert recall_at(perfect) == (1.0, 1.0)
    assert recall_at(torch.zeros(4, 4)) == (0.0, 0.0)  # a constant finds nothing
    off = torch.tensor([[0.5, 0.9], [0.1, 0.2]])
    # Caption 0 finds clip 0, caption 1 prefers clip 0; clip 0 prefers caption 1, clip 1 finds its own.
    assert recall_at(off) == (0.5, 0.5)
    assert recall_at(off, 2) == (1.0, 1.0)
    with pytest.raises(ValueError, match="k must be from 1 to 2, got 3"):
        recall_at(off, 3)


def test_preferred():
    right = torch.tensor([1.0, 0.0, 0.5, 0.5])
    wrong = torch.tensor([0.0, 1.0, 0.5, 0.5 + 1e-7])
    assert preferred(right, wrong) == 0.5


@pytest.mark.wrong_shapes
def test_bad_input(encoder, toy_name):
    clip = video()
    cases = [
        (lambda: encoder.encode_video(clip[:, :1]), "video must have 3 channels"),
        (lambda: encoder.encode_video(clip, torch.ones(2, 5).bool()), r"mask must have shape \(2, 8\)"),
        (lambda: encoder.encode_text(["a purple dog"]), "world's words, got 'purple'"),
        (lambda: encoder.encode_text(["a red circle and " * 40]), "at most"),
        (lambda: TemporalHead(24, 5), "heads must divide width, got width 24 and heads 5"),
        (
            lambda: TemporalHead(24, 2, 1, 4)(torch.zeros(1, 5, 24), torch.ones(1, 5).bool()),
            "at most 4 frames, got 5",
        ),
        (lambda: open_clip_encoder("ViT-B-33"), "name must be a model of open_clip, got 'ViT-B-33'; near it"),
        (lambda: open_clip_encoder("ViT-B-32", "openai"), "must be 'ViT-B-32-quickgelu'"),
        (lambda: open_clip_encoder("ViT-B-32", "nothing"), "pretrained must be a checkpoint file or a tag"),
        (lambda: recall_at(torch.zeros(2, 3)), "similarity must be square"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_without_a_network_the_error_says_how_to_get_the_weights(toy_name, monkeypatch):
    import open_clip

    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(ConnectionError, match="pass the path of a checkpoint file as pretrained"):
        open_clip_encoder("ViT-B-32-quickgelu", "openai")


def test_is_a_module_that_can_be_moved(encoder):
    assert isinstance(encoder, TextVideoEncoder)
    assert {"mean", "std"} <= {name for name, _ in encoder.named_buffers()}
    assert not {"mean", "std"} & set(encoder.state_dict())
