"""Muon against PyTorch's, and half precision only where the device has it."""

import pytest
import torch

from t2v_mini.configs import TrainConfig
from t2v_mini.training import muon as module
from t2v_mini.training.muon import Muon, orthogonalized
from t2v_mini.training.optimizer import Optimizers
from t2v_mini.training.precision import autocast, has_bf16

COEFFICIENTS = (3.4445, -4.775, 2.0315)
CPU = torch.device("cpu")


def layers():
    """Matrices that are wide, tall and square, two of one shape."""
    torch.manual_seed(0)
    shapes = (24, 16), (16, 24), (16, 16), (16, 24)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]


def trained(make, steps=6):
    """The matrices after some steps on the same gradients; the last of them rests now and then."""
    parameters, rng = layers(), torch.Generator().manual_seed(1)
    optimizer = make(parameters)
    for step in range(steps):
        for index, p in enumerate(parameters):
            gradient = torch.randn(p.shape, generator=rng) + 0.3
            p.grad = None if index == 3 and step % 3 == 2 else gradient
        optimizer.step()
    return [p.detach() for p in parameters], optimizer


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_muon_does_what_that_of_pytorch_does(monkeypatch, half, nesterov):
    monkeypatch.setattr(module, "has_bf16", lambda device: half)
    settings = {"lr": 0.02, "weight_decay": 0.1, "nesterov": nesterov}
    found, _ = trained(lambda ps: Muon(ps, **settings))
    right, _ = trained(lambda ps: torch.optim.Muon(ps, **settings, adjust_lr_fn="match_rms_adamw"))
    for ours, theirs, start in zip(found, right, layers(), strict=True):
        moved = (theirs - start).norm()
        # PyTorch's works in bf16, with about three digits.
        assert moved > 0.1 and (ours - theirs).norm() < 0.02 * moved


def test_orthogonalized_brings_singular_values_near_one():
    torch.manual_seed(0)
    matrices = torch.randn(3, 20, 12, dtype=torch.float64)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    made = orthogonalized(matrices, COEFFICIENTS, 5, 1e-7)
    a, b, c = COEFFICIENTS
    # The polynomial acts on the singular values alone.
    expected = s / s.square().sum(1, keepdim=True).sqrt()
    for _ in range(5):
        expected = a * expected + b * expected**3 + c * expected**5
    torch.testing.assert_close(made, (u * expected[:, None]) @ v, atol=1e-9, rtol=0)
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.6 and values.max() < 1.3
    # A tall matrix is treated as the wide one that it is when turned.
    torch.testing.assert_close(orthogonalized(matrices.mT, COEFFICIENTS, 5, 1e-7), made.mT)
    assert not orthogonalized(torch.zeros(1, 4, 4), COEFFICIENTS, 5, 1e-7).any()


def test_muon_runs_a_closure_and_its_state_fits_pytorchs():
    _, optimizer = trained(lambda ps: Muon(ps))
    assert optimizer.step(lambda: torch.tensor(3.0)) == 3
    other = torch.optim.Muon(layers(), adjust_lr_fn="match_rms_adamw")
    other.load_state_dict(optimizer.state_dict())
    assert all(set(state) == {"momentum_buffer"} for state in other.state_dict()["state"].values())


def test_a_kernel_is_the_matrix_with_a_row_for_each_output_channel():
    torch.manual_seed(0)
    kernel = torch.nn.Parameter(torch.randn(6, 4, 3, 3, 3))
    matrix = torch.nn.Parameter(kernel.detach().reshape(6, 108).clone())
    optimizers = [Muon([p], lr=0.02) for p in (kernel, matrix)]
    before = kernel.detach().clone()
    for _ in range(3):
        kernel.grad = torch.randn(6, 4, 3, 3, 3)
        matrix.grad = kernel.grad.reshape(6, 108)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(kernel.reshape(6, 108), matrix) and not torch.equal(kernel, before)


def test_kernels_get_muon_where_they_are_asked_to_and_those_at_the_ends_never():
    model = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.ModuleDict(
                {"stem": torch.nn.Conv3d(3, 8, 3), "inner": torch.nn.Conv3d(8, 8, 3)}
            ),
            "decoder": torch.nn.ModuleDict({"head": torch.nn.Conv3d(8, 3, 3)}),
        }
    )
    assert set(Optimizers(model, TrainConfig()).optimizers) == {"adamw"}
    made = Optimizers(model, TrainConfig(matrix_kernels=True)).optimizers
    (kernel,) = made["muon"].param_groups[0]["params"]
    assert kernel is model["encoder"]["inner"].weight
    assert sum(p.numel() for group in made["adamw"].param_groups for p in group["params"]) == sum(
        p.numel() for p in model.parameters() if p is not kernel
    )


def test_matrices_get_muon_and_the_rest_adamw():
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 4))
    optimizers = Optimizers(model, TrainConfig()).optimizers
    assert isinstance(optimizers["muon"], Muon)
    assert [p.ndim for p in optimizers["muon"].param_groups[0]["params"]] == [2, 2]
    assert set(Optimizers(model, TrainConfig(matrix_learning_rate=0.0)).optimizers) == {"adamw"}


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (True, False), (False, True)])
def test_half_precision_needs_a_processor_that_has_it(monkeypatch, avx512, amx):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    assert has_bf16(CPU) == (avx512 or amx) and has_bf16(torch.device("cuda"))
    for wanted in (True, False):
        with autocast(CPU, wanted):
            assert (layer(x).dtype == torch.bfloat16) == (wanted and has_bf16(CPU))
