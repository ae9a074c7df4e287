"""Chapter 4: the solutions as they stand in the notebook, other right answers, and wrong ones."""

import torch
import torch.nn.functional as F

SOLUTIONS = {
    "4.1": """
def encode(captions, ids):
    rows = []
    for text in captions:
        for word in text.split():
            if word not in ids:
                raise ValueError(f"unknown word: {word!r}")
        inner = [ids[word] for word in text.split()]
        rows.append([ids["<start>"], *inner, ids["<end>"]])
    length = max(map(len, rows))
    padded = [r + [ids["<pad>"]] * (length - len(r)) for r in rows]
    return torch.tensor(padded)
""",
    "4.2": """
def contrastive(video, text, scale):
    video = video / video.norm(dim=-1, keepdim=True)
    text = text / text.norm(dim=-1, keepdim=True)
    logits = scale * video @ text.T
    own = torch.arange(len(logits))
    rows = F.cross_entropy(logits, own)
    columns = F.cross_entropy(logits.T, own)
    return (rows + columns) / 2
""",
    "4.3": """
def divergence(logits, positives):
    count = positives.sum(1)
    log_p = logits.log_softmax(1).masked_fill(~positives, 0.0)
    return (-log_p.sum(1) / count - count.log()).mean()
""",
    "4.4": """
def recall(similarity, k):
    own = similarity.diagonal()[:, None]
    others = ~torch.eye(len(similarity), dtype=torch.bool)
    ahead = ((similarity >= own) & others).sum(1)
    return (ahead < k).float().mean().item()
""",
    "4.5": """
def gradient(cosines, scale):
    logits = scale * cosines
    B = len(logits)
    both = logits.softmax(1) + logits.softmax(0)
    return scale * (both - 2 * torch.eye(B)) / (2 * B)
""",
}


def _encode(
    start="<start>", end="<end>", pad=None, before=False, length=None, unknown=ValueError, last=False
):
    """A tokenizer with a fault in its frame, padding or error."""

    def encode(captions, ids):
        rows = []
        for text in captions:
            inner = []
            for word in text.split():
                if word not in ids and unknown:
                    raise unknown(f"unknown word {word}")
                inner.append(ids.get(word, 0))
            head = [ids[start]] if start else []
            rows.append(head + inner + ([ids[end]] if end and not last else []))
        fill = ids["<pad>"] if pad is None else pad
        width = (length or max(map(len, rows))) + last
        gaps = [[fill] * (width - len(row) - last) for row in rows]
        tails = [[ids[end]] if last else [] for _ in rows]
        ready = [gap + row if before else row + gap for row, gap in zip(rows, gaps, strict=True)]
        return torch.tensor([row + tail for row, tail in zip(ready, tails, strict=True)])

    return encode


def _encode_floats(captions, ids):
    return _encode()(captions, ids).float()


def _encode_learns(captions, ids):
    for word in " ".join(captions).split():
        ids.setdefault(word, len(ids))
    ids["new"] = 1
    return _encode()(captions, ids)


def _encode_nameless(captions, ids):
    if any(word not in ids for word in " ".join(captions).split()):
        raise ValueError("unknown word")
    return _encode()(captions, ids)


def _loss(norm_video=True, norm_text=True, axis=-1, rows=0.5, columns=0.5, scale=1, factor=1.0):
    """The contrastive loss with a fault in its features, scale or mean."""

    def contrastive(video, text, tau):
        video = F.normalize(video, dim=axis) if norm_video else video
        text = F.normalize(text, dim=axis) if norm_text else text
        logits = tau**scale * video @ text.T
        own = torch.arange(len(logits))
        mean = rows * F.cross_entropy(logits, own) + columns * F.cross_entropy(logits.T, own)
        return factor * mean

    return contrastive


def _loss_in_place(video, text, scale):
    video /= video.norm(dim=-1, keepdim=True)
    return _loss()(video, text, scale)


def _loss_overflows(video, text, scale):
    logits = scale * F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T
    both = logits.exp() / logits.exp().sum(1, keepdim=True), logits.exp() / logits.exp().sum(0)
    return -sum(p.diagonal().log().mean() for p in both) / 2


def _loss_by_log_softmax(video, text, scale):
    logits = scale * F.cosine_similarity(video[:, None], text[None], dim=-1)
    both = logits.log_softmax(0).diagonal() + logits.log_softmax(1).diagonal()
    return -both.mean().item() / 2


def _divergence(entropy=-1.0, divide=True, mean=True, axis=1, sign=1.0, stable=True):
    """The divergence with a fault in its entropy, softmax or mean."""

    def divergence(logits, positives):
        logits = logits if axis == 1 else logits.T
        count = positives.sum(1)
        log_p = logits.log_softmax(1) if stable else logits.softmax(1).log()
        each = -(log_p.masked_fill(~positives, 0.0)).sum(1)
        each = (each / count if divide else each) + entropy * count.log()
        return sign * (each.mean() if mean else each.sum())

    return divergence


def _some_is_likely(logits, positives):
    low = float("-inf")
    return (logits.logsumexp(1) - logits.masked_fill(~positives, low).logsumexp(1)).mean()


def _all_entries_at_once(logits, positives):
    log_p = logits.log_softmax(1).masked_fill(~positives, 0.0)
    return -log_p.sum() / positives.sum() - positives.sum(1).log().mean()


def _both_sides(logits, positives):
    return (_divergence()(logits, positives) + _divergence()(logits.T, positives.T)) / 2


def _positives_in_place(logits, positives):
    result = _divergence()(logits, positives)
    positives.fill_(True)
    return result


def _divergence_by_kl(logits, positives):
    target = positives / positives.sum(1, keepdim=True)
    return F.kl_div(logits.log_softmax(1), target.to(logits), reduction="batchmean")


def _recall(columns=False, strict=False, shift=0, factor=1.0, fixed=None):
    """Recall with a fault in its axis, ties or count."""

    def recall(similarity, k):
        matrix = similarity.T if columns else similarity
        own = matrix.diagonal()[:, None]
        others = ~torch.eye(len(matrix), dtype=torch.bool)
        ahead = (((matrix > own) if strict else (matrix >= own)) & others).sum(1)
        return factor * (ahead < (fixed or k) + shift).float().mean().item()

    return recall


def _recall_by_topk(similarity, k):
    top = similarity.topk(k, dim=1).indices
    own = torch.arange(len(similarity))[:, None]
    return (top == own).any(1).float().mean().item()


def _recall_by_sorting(similarity, k):
    own = similarity.diagonal()[:, None]
    at_least = (similarity >= own).sum(1)
    return (at_least <= k).double().mean()


def _gradient(rows=1.0, columns=1.0, pull=2.0, factor=1.0, chain=True, mean=True):
    """The gradient with a fault in one of its factors."""

    def gradient(cosines, scale):
        logits, B = scale * cosines, len(cosines)
        both = rows * logits.softmax(1) + columns * logits.softmax(0) - pull * torch.eye(B)
        return factor * (scale if chain else 1.0) * both / (2 * B if mean else 2)

    return gradient


def _gradient_of_cosines(cosines, scale):
    both = cosines.softmax(1) + cosines.softmax(0) - 2 * torch.eye(len(cosines))
    return scale * both / (2 * len(cosines))


def _gradient_by_loops(cosines, scale):
    B = len(cosines)
    out = torch.zeros(B, B, dtype=cosines.dtype)
    for i in range(B):
        for j in range(B):
            p = (scale * cosines[i, j]).exp() / (scale * cosines[i]).exp().sum()
            q = (scale * cosines[i, j]).exp() / (scale * cosines[:, j]).exp().sum()
            out[i, j] = scale * (p + q - 2 * (i == j)) / (2 * B)
    return out


RIGHT = {
    "4.1": [("other code", _encode())],
    "4.2": [("cross-entropy", _loss()), ("log_softmax", _loss_by_log_softmax)],
    "4.3": [("mask", _divergence()), ("kl_div", _divergence_by_kl)],
    "4.4": [("mask", _recall()), ("count", _recall_by_sorting)],
    "4.5": [("softmax", _gradient()), ("loops", _gradient_by_loops)],
}

WRONG = {
    "4.1": [
        ("bare", _encode(start=None, end=None), "start and end are missing"),
        ("no end", _encode(end=None), "the start or the end is missing"),
        ("no start", _encode(start=None), "the start or the end is missing"),
        ("pads with 0", _encode(pad=0), "need not be 0"),
        ("end last", _encode(last=True), "right after the last word"),
        ("pads in front", _encode(before=True), "behind the end"),
        ("fixed length", _encode(length=8), "so the shape is"),
        ("passes unknown", _encode(unknown=None), "yours passes"),
        ("KeyError", _encode(unknown=KeyError), "raises KeyError"),
        ("nameless", _encode_nameless, "must name the unknown word"),
        ("floats", _encode_floats, "ids are integers"),
        ("learns words", _encode_learns, "you changed the dictionary"),
        ("a list", lambda captions, ids: _encode()(captions, ids).tolist(), "must be a tensor"),
    ],
    "4.2": [
        ("lengths kept", _loss(norm_video=False, norm_text=False), "must be normalised"),
        ("texts kept", _loss(norm_text=False), "only the clips are normalised"),
        ("over the batch", _loss(axis=0), "you normalise over the batch"),
        ("clips only", _loss(rows=1, columns=0), "Each caption must choose"),
        ("texts only", _loss(rows=0, columns=1), "Each clip must choose"),
        ("sum of both", _loss(rows=1, columns=1), "the sum of both directions"),
        ("no scale", _loss(scale=0), "the scale has no effect"),
        ("divides", _loss(scale=-1), "multiply, do not divide"),
        ("negative", _loss(factor=-1.0), "the sign is wrong"),
        ("sum", _loss(factor=5.0), "the sum over the batch"),
        ("in place", _loss_in_place, "you changed the features"),
        ("overflows", _loss_overflows, "not finite"),
    ],
    "4.3": [
        ("no entropy", _divergence(entropy=0.0), "is not subtracted"),
        ("adds entropy", _divergence(entropy=1.0), "not added"),
        ("no division", _divergence(divide=False), "divided by the number of its positives"),
        ("sum", _divergence(mean=False), "not the mean"),
        ("columns", _divergence(axis=0), "axis 1"),
        ("negative", _divergence(sign=-1.0), "the sign is wrong"),
        ("both sides", _both_sides, "rows alone"),
        ("softmax then log", _divergence(stable=False), "not finite"),
        ("some is likely", _some_is_likely, "SOME true caption"),
        ("all entries at once", _all_entries_at_once, "Each row has the same weight"),
        ("spoils positives", _positives_in_place, "you changed positives"),
    ],
    "4.4": [
        ("columns", _recall(columns=True), "you look along columns"),
        ("strict", _recall(strict=True), "a constant matrix has found nothing"),
        ("own counted", _recall(shift=-1), "count the own entry"),
        ("one too many", _recall(shift=1), "one place too many"),
        ("percent", _recall(factor=100.0), "a share between 0 and 1"),
        ("count", _recall(factor=12.0), "a share between 0 and 1"),
        ("k ignored", _recall(fixed=1), "k has no effect"),
        ("topk", _recall_by_topk, "a constant matrix has found nothing"),
    ],
    "4.5": [
        ("no chain rule", _gradient(chain=False), "multiplies by the scale"),
        ("sum", _gradient(mean=False), "The loss is a mean"),
        ("both summed", _gradient(factor=2.0), "their mean"),
        ("one way", _gradient(columns=0.0, pull=1.0), "one direction only"),
        ("one way twice", _gradient(rows=2.0, columns=0.0), "counted twice"),
        ("no pull", _gradient(pull=0.0), "without the pull"),
        ("half a pull", _gradient(pull=1.0), "half of the pull"),
        ("negative", _gradient(factor=-1.0), "the sign is wrong"),
        ("of cosines", _gradient_of_cosines, "a softmax over cosines"),
        ("a number", lambda cosines, scale: 1.0, "must be a tensor of shape"),
    ],
}
