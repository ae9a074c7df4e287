"""The contrastive loss, against open_clip's and on two processes."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from t2v_mini.losses.contrastive import ContrastiveLoss, caption_labels


def pairs(batch=6, width=8, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(batch, width, generator=rng), torch.randn(batch, width, generator=rng)


def test_equals_open_clip_with_gradients():
    from open_clip.loss import ClipLoss

    video, text = pairs()
    outcomes = []
    for theirs in (False, True):
        v, t = video.clone().requires_grad_(), text.clone().requires_grad_()
        if theirs:
            scale = torch.tensor(1 / 0.07)
            loss = ClipLoss()(F.normalize(v, dim=-1), F.normalize(t, dim=-1), scale)
        else:
            loss = ContrastiveLoss()(10 * v, 0.3 * t)  # it normalises by itself
        outcomes.append([loss, *torch.autograd.grad(loss, [v, t])])
    for mine, other in zip(*outcomes, strict=True):
        assert (mine - other).abs().max() < 1e-5


def test_scale_is_bounded():
    loss = ContrastiveLoss(temperature=1e-4)
    assert loss.scale.item() == pytest.approx(100.0)
    assert ContrastiveLoss().scale.item() == pytest.approx(1 / 0.07)


def test_duplicates_are_no_negatives():
    """Perfect features of a batch with repeated captions: the floor is 0, and it was not."""
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    features = F.one_hot(labels, 4).float()
    loss = ContrastiveLoss(temperature=0.01)
    assert loss(features, features, labels).item() == pytest.approx(0.0, abs=1e-5)
    blind = loss(features, features).item()
    floor = (2 * math.log(2) + 3 * math.log(3)) / 6
    assert blind == pytest.approx(floor, abs=1e-5)


def test_labels_give_unicl():
    """Against UniCL's equation, written out: mean over positives of the log-probability."""
    video, text = pairs()
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    loss = ContrastiveLoss()
    logits = loss.scale * F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T
    total = 0.0
    for matrix in (logits, logits.T):
        for i in range(6):
            same = [j for j in range(6) if labels[i] == labels[j]]
            log_p = matrix[i] - matrix[i].exp().sum().log()
            total += -sum(log_p[j] for j in same) / len(same) - math.log(len(same))
    assert loss(video, text, labels).item() == pytest.approx(total.item() / 12, abs=1e-5)


def test_positives_say_which_caption_is_true_of_which_clip():
    video, text = pairs(4)
    labels = torch.tensor([0, 1, 0, 2])
    loss = ContrastiveLoss()
    same = labels[:, None] == labels[None]
    assert torch.allclose(loss(video, text, labels), loss(video, text, positives=same))
    one_way = torch.eye(4, dtype=torch.bool)
    one_way[0, 1] = True  # caption 1 is also true of clip 0, but not the other way round
    assert not torch.allclose(loss(video, text, positives=one_way), loss(video, text, positives=one_way.T))


def _rank(rank, folder, outcome):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    video, text = pairs(8)
    labels = torch.tensor([0, 1, 2, 3, 0, 4, 5, 1])
    mine = slice(4 * rank, 4 * rank + 4)
    for name, chosen in (("plain", None), ("labels", labels[mine])):
        weight = torch.eye(8, requires_grad=True)
        loss = ContrastiveLoss()
        value = loss(video[mine] @ weight, text[mine], chosen)
        value.backward()
        grads = [weight.grad, loss.log_scale.grad, value.detach()]
        for g in grads:  # what DistributedDataParallel does
            dist.all_reduce(g)
            g /= 2
        if rank == 0:
            outcome[name] = [g.clone() for g in grads]
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    with mp.Manager() as manager:
        outcome = manager.dict()
        mp.spawn(_rank, (str(tmp_path), outcome), nprocs=2)
        found = dict(outcome)
    video, text = pairs(8)
    labels = torch.tensor([0, 1, 2, 3, 0, 4, 5, 1])
    for name, chosen in (("plain", None), ("labels", labels)):
        weight = torch.eye(8, requires_grad=True)
        loss = ContrastiveLoss()
        value = loss(video @ weight, text, chosen)
        value.backward()
        for whole, parts in zip([weight.grad, loss.log_scale.grad, value], found[name], strict=True):
            assert (whole - parts).abs().max() < 1e-5
    # What each process alone would see is an easier task, and a smaller loss.
    alone = sum(ContrastiveLoss()(video[s], text[s]) for s in (slice(4), slice(4, 8))) / 2
    assert alone < found["plain"][2] - 0.1


def test_labels_of_captions():
    labels = caption_labels(["a red circle", "a blue circle", "a red circle"])
    assert labels[0] == labels[2] != labels[1] and (labels >= 0).all()
    assert labels[0].item() == 5832813804483663533  # in every process and version


@pytest.mark.wrong_shapes
def test_bad_input():
    video, text = pairs(3)
    loss = ContrastiveLoss()
    lonely = torch.eye(3, dtype=torch.bool)
    lonely[2] = False
    cases = [
        (lambda: loss(video, text[:2]), r"video and text must have one shape, got \(3, 8\) and \(2, 8\)"),
        (lambda: loss(video[:1], text[:1]), "at least 2 pairs, got 1"),
        (lambda: loss(video, text, torch.zeros(3).long(), lonely), "exclude each other"),
        (lambda: loss(video, text, positives=lonely), "a true entry in each row and column"),
        (lambda: ContrastiveLoss(0.0), "temperature must be above 0, got 0.0"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
