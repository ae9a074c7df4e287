"""What the cards of shipped weights, and the book's pages about them, have in common."""


def measured(evaluation: dict) -> dict[str, dict]:
    """The evaluations by name: seen and unseen combinations, and unseen ones of lower levels, if any."""
    named, lower = {split: evaluation[split] for split in ("seen", "unseen")}, evaluation.get("levels", [])
    if lower:
        named = {f"{split}, level {row['level']}": row for split, row in named.items()}
    return named | {f"unseen, level {row['level']}": row for row in lower}


def accuracy_table(evaluation: dict) -> list[str]:
    """Caption accuracy of seen and unseen combinations, as the lines of a table."""
    lines = [
        "| combinations | caption accuracy | 95% interval | ceiling | spread | clips |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in measured(evaluation).items():
        low, high = row["interval"]
        lines.append(
            f"| {name} | {row['caption_accuracy']:.1%} | {low:.1%} to {high:.1%} | {row['ceiling']:.1%} "
            f"| {row['spread']:.2f} | {row['clips']} |"
        )
    return lines


def layout_rows(rows: dict[str, dict]) -> list[str]:
    """Whole captions by number of objects and by relation, as the lines of a table; none of older rows."""
    found = [
        f"| {name}, {layout} | {one['clips']} | {one['caption_accuracy']:.1%} |"
        for name, row in rows.items()
        for layout, one in row.get("layouts", {}).items()
    ]
    return ["", "| layouts | clips | whole captions |", "| --- | --- | --- |", *found] if found else []


def recall_table(retrieval: dict) -> list[str]:
    """Recall at 1 of an encoder of clips and captions, as the lines of a table."""
    lines = [
        "| recall at 1, unseen combinations | text to video | video to text | captions | draws of clips |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in retrieval.items():
        lines.append(
            f"| {name} | {row['text to video']:.1%} | {row['video to text']:.1%} "
            f"| {row['captions']} | {row['draws']} |"
        )
    return lines


def canvases(config: dict) -> str:
    """Levels and canvases of a configuration's data."""
    data = config["data"] if isinstance(config["data"], list | tuple) else [config["data"]]
    levels = sorted(set(config["train"].get("levels", ())))
    if levels:
        data = [{**data[0], "level": level} for level in levels]
    return "; ".join(
        f"level {one['level']}, {one['frames']} frames of {one['height']} x {one['width']}" for one in data
    )


def origin(record: dict) -> dict:
    """What the record of a run says of the weights that it started from, given theirs."""
    kept = {name: record[name] for name in ("hash", "step", "seconds", "start") if name in record}
    return kept | {"batch": record["config"]["train"]["batch"]}


def origin_rows(record: dict, digest: str) -> list[str]:
    """Moving Shapes as the data, and `training_rows`, as rows of a table with two columns."""
    config, drawn = record["config"], "drawn on the fly"
    if config.get("codec"):
        made = f"the latents `{record['codec'][:12]}` of `{config['codec']}`"
        drawn = f"{config['train']['latents']:,} clips, as {made}"
    data = f"| data | Moving Shapes, {canvases(config)}; seen combinations, {drawn} |"
    return [data, *training_rows(record, digest)]


def training_rows(record: dict, digest: str) -> list[str]:
    """Hash, training, device, versions, commit and date, as rows of a table with two columns.

    `start` in the record tells of the weights that the run started from, if any, and of theirs.
    """
    config, where = record["config"], record["conditions"]
    before, start = [], record.get("start")
    while start:
        row = (
            f"| start | the weights `{start['hash'][:12]}`: {start['step']} steps of "
            f"{start['batch']} clips, {start['seconds'] / 60:.0f} minutes |"
        )
        before, start = [row, *before], start.get("start")
    alone = ", of the decoder alone" if record.get("decoder alone") else ""
    return [
        f"| content hash | `{digest}` |",
        f"| configuration | `{config['name']}` |",
        *before,
        f"| training | {record['step']} steps of {config['train']['batch']} clips, seed "
        f"{config['train']['seed']}{alone}, {record['seconds'] / 60:.0f} minutes |",
        f"| device | {where['device']}, {where['threads']} thread{'s' * (where['threads'] != 1)} |",
        f"| versions | torch {where['torch']}, Python {where['python']} |",
        f"| commit | `{(where['commit'] or 'none')[:12]}` |",
        f"| date | {where.get('date', 'that of the commit')} |",
        "| licence | MIT |",
    ]
