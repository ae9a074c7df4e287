"""Check that every shipped weight still does what its card says: `python -m tools.check_weights`.

The clips of the card's own check are generated and judged again, and retrieval is measured again; two
points less is a failure. So is half a decibel less of what a codec keeps.
"""

import sys

from tqdm import tqdm

from experiments.train_clip import retrieval
from t2v_mini.configs import VideoVAEConfig
from t2v_mini.pipeline import TextToVideo, evaluate
from t2v_mini.reconstruction import evaluate_codec
from t2v_mini.training.checkpoint import read_record
from t2v_mini.training.shipped import PRETRAINED, load_clip, shipped_weights
from t2v_mini.training.video_vae import load_codec

TOLERANCE = 0.02
DECIBELS, CODEC_CLIPS = 0.5, 128


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
    failed += sum(map(check_clip, shipped_weights("clip")))
    return failed + sum(map(check_codec, shipped_weights("codec")))


def check_clip(name: str) -> int:
    """Measure the recall of an encoder again; returns how many figures are too low."""
    card = read_record(PRETRAINED / f"{name}.safetensors")["evaluation"]["retrieval"]
    found, failed = retrieval(load_clip(name), card["level 1"]["draws"]), 0
    for level, row in found.items():
        for way in ("text to video", "video to text"):
            good = row[way] >= card[level][way] - TOLERANCE
            failed += not good
            print(
                f"{name}: {level}, {way}: recall at 1 {row[way]:.1%}, card {card[level][way]:.1%}: "
                f"{'ok' if good else 'FAILED'}"
            )
    return failed


def check_codec(name: str) -> int:
    """Measure what a codec keeps again; returns how many levels it keeps less of."""
    codec, record = load_codec(name)
    levels, failed = VideoVAEConfig.from_dict(record["config"]).data, 0
    for data, card in zip(levels, record["evaluation"]["levels"], strict=True):
        found = evaluate_codec(codec, data, CODEC_CLIPS)["psnr"]
        good = found >= card["psnr"] - DECIBELS
        failed += not good
        print(
            f"{name}: level {data.level}, {found:.1f} dB, card {card['psnr']:.1f} dB: "
            f"{'ok' if good else 'FAILED'}"
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
