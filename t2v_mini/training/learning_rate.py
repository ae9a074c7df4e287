"""Learning-rate schedules: pure functions of the step."""


def trapezoid(step: int, steps: int, warmup: int, cooldown: float) -> float:
    """Factor in [0, 1]: linear warm-up, plateau, linear fall to zero over the last share `cooldown`."""
    if not 0 <= cooldown <= 1:
        raise ValueError(f"cooldown must lie in [0, 1], got {cooldown}")
    rise = min(1.0, (step + 1) / max(1, warmup))
    fall = min(1.0, (steps - step) / max(1.0, cooldown * steps))
    return max(0.0, min(rise, fall))
