"""Check that every shipped weight still does what its card says: `python -m tools.check_weights`.

The clips of the card's own check are generated and judged again; two points less is a failure.
"""

import sys

from tqdm import tqdm

from t2v_mini.pipeline import TextToVideo, evaluate
from t2v_mini.training.shipped import shipped_weights

TOLERANCE = 0.02


def main() -> int:
    """Return the number of weights that fail; none shipped at all is a failure, too."""
    names = shipped_weights()
    if not names:
        print("no weights are shipped")
        return 1
    failed = 0
    for name in names:
        pipeline = TextToVideo.from_pretrained(name)
        card = pipeline.record["evaluation"]["check"]
        with tqdm(total=card["clips"], unit="clip", desc=name, disable=None) as bar:
            found = evaluate(
                pipeline, card["split"], card["clips"], progress=lambda n, bar=bar: bar.update(n - bar.n)
            )
        good = found["caption_accuracy"] >= card["caption_accuracy"] - TOLERANCE
        failed += not good
        print(
            f"{name}: caption accuracy {found['caption_accuracy']:.1%} on {found['clips']} clips, "
            f"card {card['caption_accuracy']:.1%}: {'ok' if good else 'FAILED'}"
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
