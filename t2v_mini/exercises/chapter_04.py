"""Checks of chapter 4: text and video in one space."""

import math

import torch
import torch.nn.functional as F

from t2v_mini.exercises.answers import number_of
from t2v_mini.exercises.mechanism import Wrong, exercise


def _near(a: float, b: float, tolerance: float = 1e-6) -> bool:
    return abs(a - b) <= tolerance * max(1.0, abs(b))


@exercise(
    id="4.1",
    title="A tokenizer",
    difficulty=1,
    minutes=10,
    hint="Make the rows as lists first, each with its start and end. Only then do you know how long the "
    "longest is, and how much padding each of the others needs after its end.",
)
def check_encode(encode) -> None:
    ids = {"<pad>": 7, "<start>": 1, "<end>": 9, "red": 2, "circle": 3, "a": 4, "grows": 5}
    captions = ["a red circle grows", "red", "a circle"]
    given = dict(ids)
    found = encode(list(captions), ids)
    if ids != given:
        raise Wrong("you changed the dictionary. Unknown words raise an error, they are not added.")
    if not isinstance(found, torch.Tensor):
        raise Wrong(f"the result must be a tensor, got {type(found).__name__}.")
    if found.is_floating_point():
        raise Wrong(f"ids are integers, got {found.dtype}.")
    right = torch.tensor([[1, 4, 2, 3, 5, 9], [1, 2, 9, 7, 7, 7], [1, 4, 3, 9, 7, 7]])
    if found.shape != right.shape:
        if found.shape == (3, 4):
            raise Wrong("start and end are missing: the longest row has 4 words and these two.")
        if found.shape == (3, 5):
            raise Wrong("the start or the end is missing.")
        raise Wrong(f"the longest row has 6 tokens, so the shape is (3, 6), got {tuple(found.shape)}.")
    if not torch.equal(found, right):
        if torch.equal(found.where(found != 0, 7), right):
            raise Wrong('padding is ids["<pad>"], which need not be 0.')
        if found[1, 0] == 7:
            raise Wrong("padding belongs behind the end, not in front of the start.")
        if (found[:, -1] == 9).all():
            raise Wrong("the end token stands right after the last word, before the padding.")
        raise Wrong(f"the rows should be {right.tolist()}, yours are {found.tolist()}.")
    if encode(["a"], ids).shape != (1, 3):
        raise Wrong("the length is that of the longest row of this batch, not a fixed one.")
    try:
        encode(["a purple circle"], ids)
    except ValueError as error:
        if "purple" not in str(error):
            raise Wrong("the message of the ValueError must name the unknown word.") from None
    except KeyError:
        raise Wrong("an unknown word must raise ValueError, and yours raises KeyError.") from None
    else:
        raise Wrong("an unknown word must raise ValueError, and yours passes.")


def _two_sided(logits: torch.Tensor) -> torch.Tensor:
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@exercise(
    id="4.2",
    title="The contrastive loss",
    difficulty=2,
    minutes=10,
    hint="Normalise, multiply to a (B, B) matrix of logits, and remember that cross-entropy wants the index "
    "of the right column. For the other direction, transpose.",
)
def check_contrastive(contrastive) -> None:
    rng = torch.Generator().manual_seed(0)
    video, text = torch.randn(2, 5, 7, generator=rng, dtype=torch.float64)
    video = video * torch.arange(1.0, 6.0, dtype=torch.float64)[:, None]
    scale = 3.0
    unit, other = F.normalize(video, dim=-1), F.normalize(text, dim=-1)
    logits = scale * unit @ other.T
    own = torch.arange(5)
    given = video.clone()
    found = number_of("the loss", contrastive(video, text, scale))
    if not torch.equal(given, video):
        raise Wrong("you changed the features themselves. Make new tensors.")
    rows, columns = F.cross_entropy(logits, own).item(), F.cross_entropy(logits.T, own).item()
    known = {
        rows: "you let each clip choose its caption. Each caption must choose its clip as well.",
        columns: "you let each caption choose its clip. Each clip must choose its caption as well.",
        rows + columns: "this is the sum of both directions, not their mean.",
        5 * (rows + columns) / 2: "this is the sum over the batch, not the mean.",
        -(rows + columns) / 2: "the sign is wrong: a loss falls when the right pair becomes likelier.",
        _two_sided(scale * video @ text.T).item(): "the features must be normalised to length 1 first.",
        _two_sided(scale * unit @ text.T).item(): "only the clips are normalised. Captions must be as well.",
        _two_sided(unit @ other.T).item(): "the scale has no effect.",
        _two_sided(logits / scale**2).item(): "scale is 1 over the temperature: multiply, do not divide.",
        _two_sided(scale * F.normalize(video, dim=0) @ F.normalize(text, dim=0).T).item(): (
            "you normalise over the batch. Each feature must have length 1 over its D numbers."
        ),
    }
    right = (rows + columns) / 2
    if not _near(found, right):
        for value, message in known.items():
            if _near(found, value):
                raise Wrong(message)
        raise Wrong(f"the loss should be {right:.4f}, yours is {found:.4f}.")
    wide = torch.eye(3, dtype=torch.float64)
    if not _near(number_of("the loss at scale 1000", contrastive(wide, wide, 1000.0)), 0.0):
        raise Wrong("at scale 1000, perfect features must give 0: use log_softmax or cross_entropy.")


@exercise(
    id="4.3",
    title="Several true captions",
    difficulty=2,
    minutes=15,
    hint="log_softmax over each row, kept where positives is true, summed, and divided by how many are true; "
    "then subtract ln of that number.",
)
def check_divergence(divergence) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 4, generator=rng, dtype=torch.float64)
    positives = torch.eye(4, dtype=torch.bool)
    positives[0, 1] = positives[0, 2] = positives[3, 0] = True
    log_p = logits.log_softmax(1)
    count = positives.sum(1)
    each = -(log_p * positives).sum(1) / count
    given = positives.clone()
    found = number_of("the result", divergence(logits, positives))
    if not torch.equal(given, positives):
        raise Wrong("you changed positives. Make a new tensor.")
    right = (each - count.log()).mean().item()
    joint = -((logits.exp() * positives).sum(1) / logits.exp().sum(1)).log()
    columns = positives.T
    flipped_rows = -(logits.T.log_softmax(1) * columns).sum(1) / columns.sum(1) - columns.sum(1).log()
    flipped = -(logits.T.log_softmax(1) * positives).sum(1) / count - count.log()
    known = {
        each.mean().item(): "the entropy ln |P| is not subtracted, so perfect rows do not give 0.",
        (each - count.log()).sum().item(): "this is the sum over the rows, not the mean.",
        (-(log_p * positives).sum(1) - count.log()).mean().item(): (
            "each row must be divided by the number of its positives."
        ),
        (-(log_p * positives).sum() / count.sum() - count.log().mean()).item(): (
            "you average over all true entries at once. Each row has the same weight, however many it has."
        ),
        joint.mean().item(): (
            "this asks that SOME true caption be likely. The equation asks for equal shares: the mean of the "
            "logarithms, not the logarithm of the sum."
        ),
        flipped.mean().item(): "the softmax must run over the captions of a row, axis 1.",
        (right + (flipped_rows.mean().item())) / 2: (
            "you average over rows and columns. Here it is the rows alone."
        ),
        -right: "the sign is wrong.",
        (each + count.log()).mean().item(): "the entropy must be subtracted, not added.",
    }
    if not _near(found, right):
        for value, message in known.items():
            if _near(found, value):
                raise Wrong(message)
        raise Wrong(f"the result should be {right:.4f}, yours is {found:.4f}.")
    steep = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]], dtype=torch.float64)
    whole = torch.ones(2, 2, dtype=torch.bool)
    value = divergence(steep, whole)
    if not math.isfinite(float(value)):
        raise Wrong("with logits of 1000 the result is not finite: softmax, then log, loses small numbers.")
    if not _near(number_of("the result for logits of 1000", value), 500 - math.log(2)):
        raise Wrong("with logits of 1000 the result is wrong.")


@exercise(
    id="4.4",
    title="Recall, honestly",
    difficulty=2,
    minutes=10,
    hint="Count in each row how many OTHER entries are at least as large as the own one. The own one is "
    "among the k largest when that count is below k.",
)
def check_recall(recall) -> None:
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 12, generator=rng)
    matrix[:6, :6] += torch.eye(6)
    own, others = matrix.diagonal()[:, None], ~torch.eye(12, dtype=torch.bool)
    ahead = ((matrix >= own) & others).sum(1)
    columns = ((matrix >= own.T) & others).sum(0)
    given = matrix.clone()
    for k in (1, 2, 5, 12):
        found = number_of(f"recall(..., {k})", recall(matrix, k))
        if not torch.equal(given, matrix):
            raise Wrong("you changed the matrix. Make a new tensor.")
        right = (ahead < k).float().mean().item()
        if _near(found, right):
            continue
        if _near(found, 12 * right) or _near(found, 100 * right):
            raise Wrong("the result is a share between 0 and 1.")
        if _near(found, (columns < k).float().mean().item()):
            raise Wrong("you look along columns. Row i must find column i among its row.")
        if k > 1 and _near(found, number_of("recall(..., 1)", recall(matrix, 1))):
            raise Wrong("k has no effect.")
        if _near(found, (ahead < k - 1).float().mean().item()):
            raise Wrong(f"for k = {k} you count the own entry among those ahead of it.")
        if _near(found, (ahead <= k).float().mean().item()):
            raise Wrong(f"for k = {k} you allow one place too many.")
        raise Wrong(f"recall(..., {k}) should be {right:.4f}, yours is {found:.4f}.")
    if recall(torch.zeros(6, 6), 1) or recall(torch.ones(6, 6), 5):
        raise Wrong("a constant matrix has found nothing: among equal numbers, the own one comes last.")
    if not _near(number_of("recall of a constant matrix with k = B", recall(torch.ones(6, 6), 6)), 1.0):
        raise Wrong("with k = B every row finds its own column, even in a constant matrix.")


@exercise(
    id="4.5",
    title="Who is pushed?",
    difficulty=3,
    minutes=20,
    hint="The derivative of -ln p_ii by a logit of row i is p_ij - [i = j]; the same for columns. Both "
    "directions add up, each divided by 2 B. Then: what is the derivative of a logit by its cosine?",
)
def check_gradient(gradient) -> None:
    rng = torch.Generator().manual_seed(0)
    for B, scale in ((5, 4.0), (3, 20.0)):
        cosines = (2 * torch.rand(B, B, generator=rng, dtype=torch.float64) - 1).requires_grad_()
        (right,) = torch.autograd.grad(_two_sided(scale * cosines), cosines)
        logits = scale * cosines.detach()
        p, q, eye = logits.softmax(1), logits.softmax(0), torch.eye(B, dtype=torch.float64)
        found = gradient(cosines.detach().clone(), scale)
        if not isinstance(found, torch.Tensor) or found.shape != (B, B):
            got = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise Wrong(f"the result must be a tensor of shape ({B}, {B}), got {got}.")
        found = found.double()
        known = {
            "by the logits. The chain rule to the cosines multiplies by the scale.": right / scale,
            "of the sum over the batch. The loss is a mean.": right * B,
            "of the sum of both directions. The loss is their mean.": right * 2,
            "of one direction only: each clip chooses. Each caption chooses as well.": scale
            * (p - eye)
            / (2 * B),
            "of -loss: the sign is wrong.": -right,
            "without the pull: the right pairs must be pulled together by 2 on the diagonal.": scale
            * (p + q)
            / (2 * B),
            "with half of the pull: both directions pull the right pair.": scale * (p + q - eye) / (2 * B),
            "of a softmax over cosines. It runs over the logits, scale times the cosines.": scale
            * (cosines.detach().softmax(1) + cosines.detach().softmax(0) - 2 * eye)
            / (2 * B),
            "of one direction, counted twice. Columns have a softmax of their own.": scale * (p - eye) / B,
        }
        if torch.allclose(found, right, atol=1e-6):
            continue
        for message, value in known.items():
            if torch.allclose(found, value, atol=1e-6):
                raise Wrong(f"this is the derivative {message}")
        raise Wrong("the numbers are not those of the derivative.")
