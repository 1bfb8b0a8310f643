"""Results as CSV, a folder for each campaign, read into pandas: `python -m examples.ctr_by_campaign.results`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import millpond
import pandas as pd

COLUMNS = ["window_start", "window_end", "impressions", "clicks", "ctr"]


def write(group: millpond.FeatureGroup, folder: Path) -> None:
    """The newest revision of every window, in `campaign_id=…/part-0.csv`; a reader sees a whole file or the one before."""
    rows = group.read(dataframe_type="pandas").sort_values(["_event_time", "_commit"])
    rows = rows.drop_duplicates(["campaign_id", "_event_time"], keep="last")
    for campaign, own in rows[rows["_op"] == "upsert"].groupby("campaign_id"):
        place = folder / f"campaign_id={campaign}"
        place.mkdir(parents=True, exist_ok=True)
        own[COLUMNS].to_csv(place / ".part-0.csv", index=False)
        os.replace(place / ".part-0.csv", place / "part-0.csv")


def read(folder: Path) -> pd.DataFrame:
    """All campaigns in one frame; the campaign is what the folder is called."""
    frames = [
        pd.read_csv(file, parse_dates=["window_start", "window_end"]).assign(
            campaign_id=file.parent.name.removeprefix("campaign_id=")
        )
        for file in sorted(folder.glob("campaign_id=*/part-*.csv"))
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*COLUMNS, "campaign_id"])


def main() -> None:
    """Write the files of the useful rate, and show what pandas reads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="the server; default: $MILLPOND_URL, else http://127.0.0.1:7878")
    parser.add_argument("--folder", type=Path, default=Path("output/ctr_results"))
    given = parser.parse_args()
    group = millpond.login(given.url).get_feature_store().get_feature_group("ctr_by_campaign_left")
    write(group, given.folder)
    print(read(given.folder))


if __name__ == "__main__":
    main()
