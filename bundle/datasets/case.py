"""A set of images with labels, whatever the layout of its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bundle.errors import InputError
from bundle.label_groups import Groups, channels_of, grouped_table
from bundle.labels import Label


@dataclass(frozen=True)
class Case:
    """One image with its labels.

    Attributes:
        name: unique in the data set.
        image: NIfTI file.
        label: NIfTI label map on the image's grid; where there is none, the file that was looked for.
        subject: cases of one subject are never parted by a split; the name, where the layout knows no subjects.
    """

    name: str
    image: Path
    label: Path
    subject: str

    def item(self) -> dict[str, str]:
        """Return ``{"image": path, "label": path}``, as MONAI's transforms and datalists have it."""
        return {"image": str(self.image), "label": str(self.label)}


@dataclass(frozen=True)
class LabelledDataset:
    """Images with labels, and the structures that the labels tell apart.

    Attributes:
        folder: where the data set lies.
        cases: ordered by name.
        table: the structures, background first; channel by channel.
        modality: what the data set says that its images are, such as ``"MRI"``.
        problems: what is wrong with the listing itself, see :func:`bundle.datasets.check_dataset` for the rest.
        licence: what the data set says of it.
        stored: the structures as the label files have them, where ``groups`` made others of them.
        groups: codes by structure, see :mod:`bundle.label_groups`.
        ignore: codes of voxels that nobody labelled.
    """

    folder: Path
    cases: Sequence[Case]
    table: Sequence[Label]
    modality: str = ""
    problems: Sequence[InputError] = field(default=())
    licence: str = ""
    stored: Sequence[Label] = ()
    groups: Groups | None = None
    ignore: Sequence[int] = ()

    @property
    def channels(self) -> dict[int, int]:
        """The channel of every code that the label files may hold."""
        return channels_of(self.table, self.stored or self.table, self.groups, self.ignore)

    @property
    def labels(self) -> Sequence[Label]:
        """The table, under the name that configs of version 0.8 know."""
        return self.table

    def grouped(self, groups: Groups | None, ignore: Sequence[int] = ()) -> LabelledDataset:
        """Return the data set with the structures that groups make of its own.

        Args:
            groups: codes by structure; ``None`` leaves them as they are.
            ignore: codes of voxels that nobody labelled, beside those that the data set names.

        Raises:
            OptionError: see :func:`bundle.label_groups.grouped_table`.
        """
        stored = self.stored or self.table
        ignored = sorted({*self.ignore, *map(int, ignore)})
        if not stored or not (groups or ignored):
            return self
        table = grouped_table(stored, groups, ignored)
        return replace(self, table=table, stored=stored, groups=groups, ignore=ignored)
