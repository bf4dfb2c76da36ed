"""The page of one episode of a dataset, with all that the dataset says of it."""

from vla.datasets.care.episode_findings import check_numbers
from vla.datasets.dataset import Dataset
from vla.datasets.storage.storage import location_name
from vla.report.episode.page import render_episode_page


def episode_title(dataset: Dataset, number: int) -> str:
    """What the page is called."""
    return f"{location_name(dataset.url)}, episode {number}"


def render_dataset_episode(dataset: Dataset, number: int) -> str:
    """One HTML file, which opens at a step where its address ends in ``#step=N``."""
    episode, record = dataset.read_episode(number), dataset.episodes[number]
    segment = int(dataset.episodes.segments[number])
    facts = {
        "dataset": dataset.url,
        "version": str(dataset.manifest.number),
        "uid": record.uid,
        "segment": dataset.manifest.segments[segment],
    }
    origin = dataset.provenance(segment)
    facts |= {key: str(origin[key]) for key in ("command", "created", "git") if origin.get(key)}
    findings = [finding.what for finding in check_numbers(episode, dataset.contract)]
    title = episode_title(dataset, number)
    return render_episode_page(episode, dataset.contract, title=title, facts=facts, findings=findings)
