"""How well the predicted quality tells good results from bad ones, on disturbed real scans and held-out synthetic ones.

``python -m benchmarks.quality DATASET_DIR --model FOLDER [--label-maps DIR [--brains DIR]] [--scans N] [--synthetic N]
[--json FILE] [--plot FILE]``; DATASET_DIR holds NAME_T1.nii.gz with NAME_labels.nii.gz (code 255 counts nowhere). Each
scan is spoilt in 30 ways. Synthetic samples are of all kinds of configs/quality.json, from the label maps that
configs/brain_train.json holds out, with a seed of their own. A result is a group of structures in a scan, or all of its
groups together (their mean). Predictions are compared with the Dice that the groups truly have.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.disturbances import Pair
from benchmarks.measure import ROOT, make_parser, met_or_missed, silence, write_json
from benchmarks.spoilt import DISTURBANCES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from bundle.inference.segmenter import Segmenter
    from bundle.model import Model
    from bundle.synthesis import DifficultSamples

BAR_RANKS, BAR_CAUGHT, BAR_FALSE = 0.8, 0.95, 0.05
BAD, GOOD, WARNED = 0.6, 0.75, 0.65
"""Dice of results that should be caught, of those that should not be flagged, and prediction below which a flag is."""
SEED = 20_012
SMALLEST_MM3 = 200.0
"""Groups of which neither map has more are not judged."""


@dataclass(frozen=True)
class Result:
    """What was predicted of a scan, and what was true, by group; ``None`` for a group that is not judged."""

    scan: str
    condition: str
    predicted: dict[str, float]
    true: dict[str, float | None]

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """Prediction and truth of each group that is judged."""
        return [(self.predicted[name], true) for name, true in self.true.items() if true is not None]

    @property
    def whole(self) -> tuple[float, float]:
        """Their means."""
        predicted, true = np.mean(self.pairs, axis=0)
        return float(predicted), float(true)


def true_dice(found: NDArray[Any], labels: NDArray[Any], model: Model, voxel_mm3: float) -> dict[str, float | None]:
    """Return the Dice of each group of codes, ``None`` for those that are not judged."""
    from bundle.model.quality import group_channels, group_dice

    groups, table = model.quality or {}, model.table
    channels = []
    for codes in (found, labels):
        channel = np.zeros(codes.shape, dtype=np.uint8)
        for label in table:
            channel[codes == label.code] = label.channel
        channel[codes == 255] = 255
        channels.append(_tensor(channel))
    dice = group_dice(channels[0], channels[1], group_channels(groups, table), SMALLEST_MM3 / voxel_mm3).tolist()
    return {name: value if np.isfinite(value) else None for name, value in zip(groups, dice, strict=True)}


def _tensor(array: NDArray[Any]) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))


def judge(segmenter: Segmenter, model: Model, pair: Pair, scan: str, condition: str) -> Result:
    """Segment one image and return what was predicted and what is true."""
    image, labels, affine = pair
    result = segmenter.segment_array(np.asarray(image, dtype=np.float32), affine)
    found = np.asarray(result.image.dataobj)
    true = true_dice(found, labels, model, float(abs(np.linalg.det(affine[:3, :3]))))
    return Result(scan, condition, dict(result.record["quality"]), true)


def real_scans(options: argparse.Namespace) -> Iterator[tuple[Pair, str, str]]:
    """Yield each scan under each condition."""
    import nibabel as nib

    from benchmarks.disturbances import reoriented
    from benchmarks.overlap import voxels
    from bundle.datasets import find_pairs

    for seed, files in enumerate(find_pairs(options.dataset_dir)[: options.scans]):
        scan: Any = nib.load(files["image"])
        given = (scan.get_fdata(dtype=np.float32), voxels(files["label"]).astype(np.int16), scan.affine)
        pair = reoriented(given, "RAS")
        for name in options.conditions:
            yield DISTURBANCES[name](pair, seed), Path(files["image"]).name, name


def synthetic(options: argparse.Namespace, model: Model) -> DifficultSamples:
    """Return samples of all kinds from label maps that no training saw."""
    from monai.bundle import ConfigParser

    from bundle.synthesis import DifficultSamples, SyntheticBrainDataset, find_label_maps, held_out

    files = [ROOT / "configs" / name for name in ("quality.json", "brain_train.json")]
    quality, brain = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    maps = held_out(find_label_maps(options.label_maps), options.held_out, "held_out")
    brains = held_out(find_label_maps(options.brains), options.brains_held_out, "held_out") if options.brains else []
    others = {"share": brain["brains_share"], "ignore": brain["brains_ignore"]}
    added = {"data": brains, **others, "extra_cerebral": brain["extra_cerebral"]}
    window, spacing = quality["window_mm"], model.pixdim[0]
    dataset = SyntheticBrainDataset(maps, spacing, window, length=1, seed=SEED, brains=added)
    training = ConfigParser(ConfigParser.load_config_files([str(ROOT / "configs" / "train.json"), str(files[1])]))
    return DifficultSamples(dataset, quality["difficulties"], training.get_parsed_content("train#dataset#options"))


def synthetic_scans(options: argparse.Namespace, model: Model) -> Iterator[tuple[Pair, str, str]]:
    """Yield the samples as images with labels."""
    samples = synthetic(options, model)
    codes = np.full(256, 255, dtype=np.int16)
    for label in model.table:
        codes[label.channel] = label.code
    affine = np.diag([samples.dataset.spacing] * 3 + [1.0])
    for index in range(options.synthetic):
        sample = samples[index]
        image, labels = sample["image"][0].numpy() * 1000, codes[sample["label"][0].numpy()]
        yield (image, labels, affine), f"synthetic {index}", samples.kind(index)


def figures(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return rank correlation, share of bad results that are caught, and of good ones that are flagged."""
    from scipy.stats import spearmanr

    predicted, true = np.array(pairs).T
    bad, good, flagged = true < BAD, true > GOOD, predicted < WARNED
    return {
        "results": len(pairs),
        "spearman": float(spearmanr(predicted, true).statistic),
        "deviation": float(np.abs(predicted - true).mean()),
        "bad": int(bad.sum()),
        "caught": float(flagged[bad].mean()) if bad.any() else float("nan"),
        "good": int(good.sum()),
        "flagged": float(flagged[good].mean()) if good.any() else float("nan"),
    }


def print_figures(name: str, found: Mapping[str, float]) -> None:
    """Print one line."""
    ranks = f"{found['spearman']:.2f} {met_or_missed(found['spearman'] >= BAR_RANKS)}"
    caught = f"{found['caught']:.1%} of {found['bad']:.0f} {met_or_missed(found['caught'] >= BAR_CAUGHT)}"
    flagged = f"{found['flagged']:.1%} of {found['good']:.0f} {met_or_missed(found['flagged'] < BAR_FALSE)}"
    line = f"{found['results']:6.0f}  {ranks:13}{caught:24}{flagged:24}{found['deviation']:.3f}"
    print(f"{name:34}{line}", flush=True)


def summarise(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Print and return the figures of real and synthetic results, by group and as wholes."""
    print(f"{'':34}{'number':>6}  {'Spearman':13}{f'below {BAD} caught':24}{f'above {GOOD} flagged':24}off by")
    sets = {
        "real": [result for result in results if not result.scan.startswith("synthetic")],
        "synthetic": [result for result in results if result.scan.startswith("synthetic")],
    }
    found = {}
    for name, part in {**sets, "all": list(results)}.items():
        if not part:
            continue
        found[f"{name}, groups"] = figures([pair for result in part for pair in result.pairs])
        found[f"{name}, wholes"] = figures([result.whole for result in part if result.pairs])
    for group in results[0].true:
        found[group] = figures([(r.predicted[group], true) for r in results if (true := r.true[group]) is not None])
    for name, row in found.items():
        print_figures(name, row)
    return found


def condition_means(results: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """Return the mean prediction and truth of whole results by condition, in the order in which they came."""
    wholes: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        if result.pairs:
            wholes.setdefault(result.condition, []).append(result.whole)
    means = {name: np.mean(pairs, axis=0) for name, pairs in wholes.items()}
    return {name: (float(predicted), float(true)) for name, (predicted, true) in means.items()}


def plot(results: Sequence[Result], path: str) -> None:
    """Draw truth over prediction, a point for each group of each result."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    for name, colour, synthetic_ones in (("disturbed scans", "tab:blue", False), ("synthetic", "tab:orange", True)):
        chosen = [pair for r in results if r.scan.startswith("synthetic") == synthetic_ones for pair in r.pairs]
        if chosen:
            predicted, true = np.array(chosen).T
            axes.scatter(predicted, true, s=6, alpha=0.5, color=colour, label=name, linewidths=0)
    axes.axvline(WARNED, color="grey", linewidth=0.8)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="predicted Dice", ylabel="true Dice", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=100)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("dataset_dir")
    parser.add_argument("--model", default=str(ROOT / "models"), help="folder of a model that predicts quality")
    parser.add_argument("--label-maps", help="folder of whole-head label maps, for synthetic samples")
    parser.add_argument("--brains", help="folder of brain-only label maps")
    parser.add_argument("--held-out", type=int, default=3)
    parser.add_argument("--brains-held-out", type=int, default=10)
    parser.add_argument("--scans", type=int, default=4, help="number of real scans")
    names = list(DISTURBANCES)
    parser.add_argument("--conditions", nargs="+", choices=names, default=names, metavar="NAME", help="default: all 30")
    parser.add_argument("--synthetic", type=int, default=60, help="number of synthetic samples")
    parser.add_argument("--json")
    parser.add_argument("--plot")
    return parser.parse_args()


def main() -> None:
    """Print a line for each result, and the figures; write them as JSON and as a plot where asked."""
    options = parse_arguments()
    from bundle.errors import OptionError
    from bundle.inference.segmenter import Segmenter
    from bundle.model import find_model

    model = find_model(options.model)
    if not model.quality:
        raise OptionError("--model", f"found {options.model}, which predicts no quality", "one that does is wanted")
    silence()
    segmenter = Segmenter(model=options.model, flags=None)
    results = []
    for source in (real_scans(options), synthetic_scans(options, model) if options.label_maps else iter(())):
        for pair, scan, condition in source:
            result = judge(segmenter, model, pair, scan, condition)
            results.append(result)
            predicted, true = result.whole if result.pairs else (float("nan"), float("nan"))
            print(f"{scan:20}{condition:26}predicted {predicted:.3f}  true {true:.3f}", flush=True)
    found = summarise(results)
    for condition, (predicted, true) in condition_means(results).items():
        print(f"{condition:34}mean predicted {predicted:.2f}  true {true:.2f}")
    if options.json:
        write_json({"figures": found, "results": [asdict(result) for result in results]}, options.json)
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
