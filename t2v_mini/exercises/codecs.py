"""Checks of chapter 8 about levels, tiles and what is left of an error; `chapter_08` imports them."""

from functools import partial

import torch
import torch.nn.functional as F

from t2v_mini.exercises.answers import close, diagnose, tensor_of
from t2v_mini.exercises.mechanism import Wrong, exercise

_close = partial(close, tolerance=1e-6)


@exercise(
    id="8.4",
    title="A few levels for each number",
    difficulty=2,
    minutes=15,
    hint="bounded + (bounded.round() - bounded).detach() has the value of the rounded number and the "
    "gradient of the bounded one. Divide by half at the end.",
)
def check_finite(finite) -> None:
    rng = torch.Generator().manual_seed(0)
    for levels in (5, 3, 9):
        half = (levels - 1) / 2
        z = 2 * torch.randn(2, 3, 2, 4, 4, generator=rng, dtype=torch.float64)
        z[0, 0, 0, 0, :2] = torch.tensor([30.0, -30.0], dtype=torch.float64)
        given = z.clone().requires_grad_()
        name = f"finite with levels={levels}"
        answer = finite(given, levels)
        found = tensor_of(name, answer, tuple(z.shape))
        if not torch.equal(given.detach(), z):
            raise Wrong("you changed z itself. Make a new tensor.")
        bounded = half * torch.tanh(z)
        right = bounded.round() / half
        if not _close(found, right):
            diagnose(
                found,
                (
                    (bounded / half, f"{name}: the numbers are bounded, and not rounded."),
                    (bounded.round(), f"{name}: divide by half at the end, so that values end at -1 and 1."),
                    (z.round(), f"{name}: the numbers are not bounded: there are more than {levels} levels."),
                    (z.round() / half, f"{name}: the numbers are not bounded: there are more than "
                     f"{levels} levels."),
                    ((half * z.clamp(-1, 1)).round() / half, f"{name}: bound by tanh, not by a clamp, whose "
                     "gradient beyond the bounds is 0."),
                    (z.clamp(-half, half).round() / half, f"{name}: bound by tanh, not by a clamp, whose "
                     "gradient beyond the bounds is 0."),
                    (bounded.floor() / half, f"{name}: you round down. Round to the nearest."),
                    (bounded.trunc() / half, f"{name}: you round towards 0. Round to the nearest."),
                    ((levels * torch.tanh(z)).round() / levels, f"{name}: with levels in place of half there "
                     f"are {2 * levels + 1} values."),
                    (((levels - 1) * torch.tanh(z)).round() / (levels - 1), f"{name}: with levels - 1 in "
                     f"place of half there are {2 * levels - 1} values."),
                    (torch.tanh(z).round(), f"{name}: multiply by half before you round."),
                ),
                _close,
            )  # fmt: skip
            raise Wrong(
                f"{name}: values must be the multiples of {1 / half:g} from -1 to 1, nearest to tanh."
            )
        if not answer.requires_grad:
            raise Wrong(f"{name}: no gradient comes back. Only the rounding may be detached.")
        push = torch.randn(z.shape, generator=rng, dtype=torch.float64)
        (slope,) = torch.autograd.grad((answer * push).sum(), given, allow_unused=True)
        if slope is None or not slope.any():
            raise Wrong(f"{name}: the gradient is 0, as that of rounding is. Let it pass straight through.")
        due = push * (1 - torch.tanh(z).square())
        if _close(slope, due):
            continue
        diagnose(
            slope,
            (
                (push, f"{name}: the gradient passes z as if there were no tanh. Detach the rounding alone."),
                (push / half, f"{name}: the gradient passes z as if there were no tanh, divided by half."),
                (half * due, f"{name}: the gradient is {half:g} times too large: the division by half is "
                 "inside what you detach."),
            ),
            _close,
        )  # fmt: skip
        raise Wrong(f"{name}: the gradient must be that of tanh, 1 - tanh(z)^2, and nothing else.")


class _Watched:
    """Convolutions along one axis that keep the size, and remember how much they were given."""

    def __init__(self, reach: int, channels: int, rng: torch.Generator) -> None:
        self.weights = [
            torch.randn(channels, channels, 3, generator=rng, dtype=torch.float64) for _ in range(reach)
        ]
        self.most = 0

    def whole(self, x):
        for weight in self.weights:
            x = torch.tanh(F.conv1d(x, weight, padding=1) + 0.3)
        return x

    def __call__(self, x):
        if not isinstance(x, torch.Tensor) or x.ndim != 3:
            raise Wrong("give the network tensors of shape (B, C, places).")
        self.most = max(self.most, x.shape[-1])
        if x.shape[-1] == 0:
            raise Wrong("you give the network a tile without places. Where does the last tile begin?")
        return self.whole(x)


@exercise(
    id="8.5",
    title="In tiles",
    difficulty=2,
    minutes=20,
    hint="A tile from start to stop needs x from max(0, start - around) to min(N, stop + around). "
    "In what comes out, its own places begin at start minus the place where the window began.",
)
def check_tiles(in_tiles) -> None:
    rng = torch.Generator().manual_seed(0)
    for n, tile, around in ((23, 5, 3), (20, 5, 2), (4, 6, 2), (16, 1, 2), (9, 4, 0), (31, 7, 4)):
        network = _Watched(around, 2, rng)
        x = torch.randn(2, 2, n, generator=rng, dtype=torch.float64)
        name = f"{n} places in tiles of {tile}, around={around}"
        right = network.whole(x)
        answer = in_tiles(network, x.clone(), tile, around)
        if isinstance(answer, torch.Tensor) and answer.ndim == 3 and answer.shape[-1] > n:
            raise Wrong(
                f"{name}: {answer.shape[-1]} places come out. Cut the margins off before you put the tiles "
                "in line."
            )
        found = tensor_of(name, answer, tuple(right.shape))
        if network.most > tile + 2 * around:
            raise Wrong(
                f"{name}: the network was given {network.most} places at once, "
                f"{tile + 2 * around} are allowed."
            )
        if _close(found, right):
            if network.most == 0:
                raise Wrong(f"{name}: the network itself must make the result.")
            continue

        def pieces(front, back, x=x, tile=tile, n=n, network=network):
            parts = []
            for start in range(0, n, tile):
                stop = min(start + tile, n)
                low, high = max(0, start - front), min(n, stop + back)
                parts.append(network.whole(x[..., low:high])[..., start - low : stop - low])
            return torch.cat(parts, dim=-1)

        wide = F.pad(x, (around, around))
        padded = []
        for start in range(0, n, tile):
            made = network.whole(wide[..., start : min(start + tile, n) + 2 * around])
            padded.append(made[..., around : made.shape[-1] - around])
        diagnose(
            found,
            (
                (pieces(0, 0), f"{name}: the tiles have no margins, so each sees ends that are not there."),
                (pieces(around, 0), f"{name}: a margin stands before each tile, and none behind it."),
                (pieces(0, around), f"{name}: a margin stands behind each tile, and none before it."),
                (pieces(max(around - 1, 0), max(around - 1, 0)), f"{name}: margins are a place too narrow."),
                (torch.cat(padded, dim=-1), f"{name}: beyond the ends of x you add zeros. The network pads "
                 "by itself at every layer, and that is not the same: let windows end where x ends."),
            ),
            _close,
        )  # fmt: skip
        off = (found - right).abs().amax((0, 1)) > 1e-6
        first = int(off.nonzero()[0])
        raise Wrong(
            f"{name}: {int(off.sum())} places are not those of the whole, the first is place {first}."
        )


@exercise(
    id="8.6",
    title="What is left of the error",
    difficulty=3,
    minutes=25,
    hint="Along one axis mu = v x with v = sqrt(lambda - nu^2) / lambda, and the decoder multiplies by "
    "w = sqrt(lambda - nu^2). The mode leaves (1 - w v)^2 lambda. A sample adds w^2 sigma^2. "
    "What if lambda is at most nu^2?",
)
def check_errors(errors) -> None:
    for values, allowed in (
        ([4.0, 1.0, 0.16, 0.04], 0.25),
        ([9.0, 2.0, 0.5], 1.0),
        ([0.3, 0.2], 0.5),
        ([5.0], 0.01),
        ([0.1, 6.0, 2.5, 0.7, 3.0], 2.0),
    ):
        variances = torch.tensor(values, dtype=torch.float64)
        name = f"errors({values}, {allowed})"
        answer = errors(variances.clone(), allowed)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise Wrong(f"{name} must return two tensors, by sample and by mode.")
        by_sample, by_mode = (
            tensor_of(f"{name}, {which},", part, (len(values),))
            for which, part in zip(("by sample", "by mode"), answer, strict=True)
        )
        heard = variances > allowed
        due_sample = variances.clamp(max=allowed)
        due_mode = torch.where(heard, allowed**2 / variances, variances)
        if _close(by_sample, due_sample) and _close(by_mode, due_mode):
            continue
        if _close(by_sample, due_mode) and _close(by_mode, due_sample):
            raise Wrong(f"{name}: the two are exchanged. The error of the mode is the smaller one.")
        diagnose(
            by_sample,
            (
                (torch.full_like(variances, allowed), f"{name}, by sample: an axis that is not heard has no "
                 "more error than it has variance."),
                (torch.where(heard, due_sample, 0.0), f"{name}, by sample: what is not heard is lost, "
                 "all of its variance."),
                (torch.where(heard, 0.0, due_sample), f"{name}, by sample: a heard axis has the allowed "
                 "error, not none."),
                (variances.clamp(min=allowed), f"{name}, by sample: the smaller of the two, not the larger."),
                (due_mode, f"{name}, by sample: this is the error of the mode. A sample adds noise, of "
                 "variance w^2 sigma^2 once decoded."),
                (torch.where(heard, allowed / variances, variances), f"{name}, by sample: this is the "
                 "variance of the latent number. Decoded, it is multiplied by w^2, and the mode's error "
                 "is added."),
                (torch.where(heard, (variances - allowed) * allowed / variances, variances), f"{name}, by "
                 "sample: this is the noise alone. The error of the mode is to be added."),
                (due_sample.sum().expand_as(variances), f"{name}: one number for each axis, not their sum."),
            ),
            _close,
        )  # fmt: skip
        if not _close(by_sample, due_sample):
            raise Wrong(f"{name}, by sample: {by_sample.tolist()}, and not what a decoded sample is off by.")
        diagnose(
            by_mode,
            (
                (due_sample, f"{name}, by mode: this is the error of a sample. The mode has no noise."),
                (torch.where(heard, 0.0, variances), f"{name}, by mode: the most likely latent does not "
                 "decode to x: it is pulled towards the mean."),
                (allowed**2 / variances, f"{name}, by mode: an axis that is not heard loses all of its "
                 "variance, and no more."),
                (torch.where(heard, allowed / variances, variances), f"{name}, by mode: the share that is "
                 "missing is nu^2 / lambda; its square, times lambda, is the error."),
                (torch.where(heard, (allowed / variances) ** 2, variances), f"{name}, by mode: times the "
                 "variance of x, which is lambda and not 1."),
                (torch.where(heard, (variances - allowed) * allowed / variances, variances), f"{name}, by "
                 "mode: this is what a sample's noise adds."),
                (torch.where(heard, variances - allowed, variances), f"{name}, by mode: this is the part "
                 "that is decoded, and not the part that is missing."),
            ),
            _close,
        )  # fmt: skip
        raise Wrong(f"{name}, by mode: {by_mode.tolist()}, and not what the decoded mean is off by.")
