"""The command that lists configurations and shipped weights."""

import json
from dataclasses import dataclass


@dataclass
class Info:
    """List configurations and shipped weights."""

    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> None:
        import torch

        from t2v_mini.configs import CONFIGS
        from t2v_mini.models.generator import Generator, parameter_count
        from t2v_mini.training import shipped
        from t2v_mini.training.checkpoint import read_record

        configs = {}
        for name, config in CONFIGS.items():
            with torch.device("meta"):
                count = parameter_count(Generator(config.model))
            data = config.data
            canvas = f"{data.frames}x{data.height}x{data.width}"
            configs[name] = {"parameters": count, "level": data.level, "canvas": canvas}
        weights = {}
        for name in shipped.shipped_weights():
            record = read_record(shipped.PRETRAINED / f"{name}.safetensors")
            unseen = record.get("evaluation", {}).get("unseen", {})
            weights[name] = {
                "hash": record["hash"],
                "step": record["step"],
                "caption_accuracy": unseen.get("caption_accuracy"),
                "interval": unseen.get("interval"),
            }
        others: dict[str, dict] = {}
        for kind in ("clip", "codec", "classifier"):
            rows = others[kind] = {}
            for name in shipped.shipped_weights(kind):
                record = read_record(shipped.PRETRAINED / f"{name}.safetensors")
                rows[name] = {"hash": record["hash"], "step": record["step"], **record["evaluation"]}
        encoders, codecs, classifiers = others.values()
        if self.json:
            found = {"configs": configs, "weights": weights, "encoders": encoders}
            print(json.dumps(found | {"codecs": codecs, "classifiers": classifiers}))
            return
        for name, row in configs.items():
            print(
                f"config  {name}: {row['parameters'] / 1e6:.2f} M parameters, "
                f"level {row['level']}, {row['canvas']}"
            )
        for name, row in weights.items():
            accuracy = row["caption_accuracy"]
            told = "not measured" if accuracy is None else f"{accuracy:.1%}"
            print(
                f"weights {name}: step {row['step']}, unseen caption accuracy {told}, hash {row['hash'][:16]}"
            )
        for name, row in encoders.items():
            recalls = [value["video to text"] for value in row["retrieval"].values()]
            told = ", ".join(f"{share:.1%}" for share in recalls)
            print(
                f"encoder {name}: step {row['step']}, video-to-text recall at 1 by level {told}, "
                f"hash {row['hash'][:16]}"
            )
        for name, row in codecs.items():
            if "films" in row:
                exact = [film["codecs"]["codec, latent exact"]["PSNR"] for film in row["films"].values()]
                told = ", ".join(f"{decibels:.1f}" for decibels in exact) + " dB by film"
            else:
                told = ", ".join(f"{level['psnr']:.1f}" for level in row["levels"]) + " dB by level"
            print(
                f"codec   {name}: step {row['step']}, {row['compression']:.0f} numbers to one, "
                f"{told}, hash {row['hash'][:16]}"
            )
        for name, row in classifiers.items():
            told = ", ".join(f"{level['all labels']:.1%}" for level in row["levels"])
            print(
                f"classifier {name}: step {row['step']}, all labels right by level {told}, "
                f"hash {row['hash'][:16]}"
            )
