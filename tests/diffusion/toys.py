"""Data whose best denoiser is known, and a fixed random network: what the tests of samplers predict with."""

import torch
from torch import Tensor, nn

PREDICTIONS = ("epsilon", "x0", "v")

MEAN = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
# Symmetric, with eigenvalues from about 0.05 to 1.6: no axis is like another.
COVARIANCE = torch.tensor([[1.2, 0.5, 0.1], [0.5, 0.6, -0.2], [0.1, -0.2, 0.2]], dtype=torch.float64)


def white_noise(count: int, axes: int = 3) -> Tensor:
    """Noise of exactly mean 0 and covariance 1: a linear sampler then shows no sampling error."""
    x = torch.randn(count, axes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x - x.mean(0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / count), x.T, upper=False).T


def root(matrix: Tensor) -> Tensor:
    """The symmetric square root."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ values.sqrt().diag() @ vectors.T


def gaussian_denoiser(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x = alpha x0 + sigma eps] for x0 from N(MEAN, COVARIANCE): Gaussian conditioning."""
    spread = alpha**2 * COVARIANCE + sigma**2 * torch.eye(3, dtype=x.dtype)
    gain = alpha * torch.linalg.solve(spread, COVARIANCE)
    return x @ gain + (MEAN - alpha * MEAN @ gain)


def gaussian_flow(noise: Tensor, alpha: Tensor, sigma: Tensor, to: tuple[Tensor, Tensor]) -> Tensor:
    """Where the exact probability-flow ODE carries points from (alpha, sigma) to another such pair.

    It keeps each coordinate of (x - alpha MEAN) / sqrt(alpha^2 S + sigma^2) along the eigenvectors.
    """
    one = torch.eye(3, dtype=noise.dtype)
    before = root(alpha**2 * COVARIANCE + sigma**2 * one)
    after = root(to[0] ** 2 * COVARIANCE + to[1] ** 2 * one)
    return to[0] * MEAN + torch.linalg.solve(before, (noise - alpha * MEAN).T).T @ after


def mixture_denoiser(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] where x0 is N(-2, 0.3^2) with weight 0.2 and N(2, 0.3^2) with weight 0.8."""
    means, weights = torch.tensor([-2.0, 2.0], dtype=x.dtype), torch.tensor([0.2, 0.8], dtype=x.dtype)
    spread = alpha**2 * 0.3**2 + sigma**2
    share = (weights.log() - (x - alpha * means).square() / (2 * spread)).softmax(-1)
    return (share * (means + alpha * 0.3**2 / spread * (x - alpha * means))).sum(-1, keepdim=True)


def prediction_of(x0: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, kind: str) -> Tensor:
    """What a network of this kind says where x0 is its best guess."""
    eps = (x - alpha * x0) / sigma
    return {"x0": x0, "epsilon": eps, "v": alpha * eps - sigma * x0, "velocity": eps - x0}[kind]


def gaussian_predictor(process, denoiser):
    """A `predict(x, t)` for GaussianDiffusion that knows the data."""

    def predict(x, t):
        assert t.shape == x.shape[:1] and t.dtype == torch.int64 and (t == t[0]).all()
        alpha_bar = process.alpha_bar[t[0]].to(x)
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        return prediction_of(denoiser(x, alpha, sigma), x, alpha, sigma, process.prediction)

    return predict


def flow_predictor(process, denoiser):
    """A `predict(x, t)` for RectifiedFlow that knows the data."""

    def predict(x, t):
        assert t.shape == x.shape[:1] and t.is_floating_point() and (t == t[0]).all()
        now = t[0].to(x)
        return prediction_of(denoiser(x, 1 - now, now), x, 1 - now, now, process.prediction)

    return predict


def random_network(dtype: torch.dtype = torch.float32, scale: float = 1.0):
    """A small convolutional `predict(x, t)` for videos of 3 channels; `t / scale` is in [0, 1]."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first, last = nn.Conv3d(3, 6, 3, padding=1).to(dtype), nn.Conv3d(6, 3, 1).to(dtype)

    @torch.no_grad()
    def predict(x, t):
        time = (t.to(x) / scale)[:, None, None, None, None]
        return last(torch.tanh(first(x) + torch.sin(3 * time)))

    return predict


def video(seed: int, dtype: torch.dtype = torch.float32, batch: int = 2) -> torch.Tensor:
    """Random numbers of the shape of a small video."""
    # Drawn in 64 bits for both dtypes, so that both test the same values.
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, 2, 4, 5, generator=generator, dtype=torch.float64).to(dtype)
