"""What samplers make of the same weights: `python -m experiments.sampling --weights latent`.

New noise in a step lets an earlier error fade, and costs variety. So captions and spread are measured
together, for each sampler of a flow, and for other guidances and numbers of steps.
"""

from dataclasses import dataclass

import tyro
from tqdm import tqdm

from experiments.results_file import write_results
from t2v_mini.pipeline import TextToVideo, evaluate

# Sampler, steps, guidance.
ARMS: tuple[tuple[str, int, float], ...] = (
    ("euler", 16, 2.0),
    ("heun", 8, 2.0),
    ("ancestral", 16, 2.0),
    ("stochastic", 16, 2.0),
    ("stochastic", 16, 1.5),
    ("stochastic", 16, 3.0),
    ("stochastic", 8, 2.0),
    ("stochastic", 32, 2.0),
    ("stochastic", 32, 1.0),
    ("euler", 32, 1.0),
)


@dataclass
class Arguments:
    """Measure weights whose process is a flow."""

    weights: str = "latent"
    """Shipped weights by name, or a .safetensors file."""
    clips: int = 256
    """Clips of unseen combinations for each arm and level."""
    levels: tuple[int, ...] = ()
    """Levels of the world; empty for all that the weights know."""
    out: str = "sampling"
    """Name of the results; empty for none."""


def calls(sampler: str, steps: int, guidance: float) -> int:
    """Calls of the denoiser for a clip: Heun's last step is Euler's, and guidance costs a second one."""
    return (2 * steps - 1 if sampler == "heun" else steps) * (1 if guidance in (0.0, 1.0) else 2)


def main(arguments: Arguments) -> None:
    """Measure all arms at all levels, and write what was found after each; `ValueError` unless of a flow."""
    pipeline = TextToVideo.from_pretrained(arguments.weights)
    levels = arguments.levels or tuple(range(1, pipeline.config.data.level + 1))
    rows = []
    for sampler, steps, guidance in tqdm(ARMS, desc="arms", unit="arm"):
        for level in levels:
            found = evaluate(
                pipeline, "unseen", arguments.clips, steps, guidance, level=level, sampler=sampler
            )
            rows.append(found | {"calls": calls(sampler, steps, guidance)})
            tqdm.write(
                f"{sampler}, {steps} steps, guidance {guidance:g}, {rows[-1]['calls']} calls, level {level}: "
                f"{found['caption_accuracy']:.1%}, spread {found['spread']:.2f}"
            )
        if arguments.out:
            write_results(arguments.out, {"weights": pipeline.record.get("hash", ""), "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
