"""Synthetic brain images: a label map is deformed, each tissue drawn from a Gaussian, and the scanner imitated.

The recipe is SynthSeg's (arXiv 2107.09559) with T1-like priors. Every number comes from one ``torch.Generator``, so a
sample depends on its seed alone. All steps run on the device of the label map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bundle.training.label_maps import CSF_CODE, ClassTable, LabelMap
from bundle.training.priors import TissuePriors


@dataclass(frozen=True)
class SynthesisOptions:
    """Ranges of the random steps; lengths in mm, intensities on a scale where white matter is near 0.8.

    Attributes:
        rotation: largest rotation about each axis, degrees.
        scaling: largest relative change of size along each axis.
        shearing: largest shear.
        elastic_spacing, elastic_sd: distance of the control points and largest standard deviation of their shift.
        shift, head_shift: largest shift of the window along each axis, for stripped and for whole heads.
        flip, strip, thick_slices: probabilities of a left-right flip, of removing the head, of thick slices.
        thickness: largest slice thickness, in voxels.
        bias, gamma, noise, texture, blur: largest log bias field, log gamma, noise, spread inside a tissue, and
            blur (standard deviation in voxels).
    """

    rotation: float = 15.0
    scaling: float = 0.15
    shearing: float = 0.02
    elastic_spacing: float = 40.0
    elastic_sd: float = 4.0
    shift: float = 12.0
    head_shift: float = 25.0
    flip: float = 0.5
    strip: float = 0.6
    thick_slices: float = 0.25
    thickness: float = 3.0
    bias: float = 0.3
    gamma: float = 0.25
    noise: float = 0.05
    texture: float = 0.06
    blur: float = 0.8


class Synthesiser:
    """Draws an image and its channel map from a label map.

    Args:
        class_table: meaning of the generation classes.
        priors: intensity priors of the tissues.
        options: ranges of the random steps.
    """

    def __init__(self, class_table: ClassTable, priors: TissuePriors, options: SynthesisOptions | None = None) -> None:
        self.table = class_table
        self.priors = priors
        self.options = options or SynthesisOptions()
        self.csf = class_table.codes.index(CSF_CODE) if CSF_CODE in class_table.codes else -1

    def __call__(
        self, label_map: LabelMap, size: tuple[int, int, int], spacing: float, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw one sample.

        Args:
            label_map: the anatomy.
            size: voxels of the window, X, Y, Z.
            spacing: edge of a voxel in mm.
            rng: source of all random numbers, on the device of the label map.

        Returns:
            Image, float32, shape (1, X, Y, Z), and channel map, uint8, shape (1, X, Y, Z).
        """
        strip = self._chance(self.options.strip, rng)
        classes = self._deform(label_map, size, spacing, strip, rng)
        image = self._paint(classes, rng)
        channels = self.table.channels.to(classes.device)[classes]
        if strip:
            kept = self._brain_mask(classes, rng)
            image, channels = image * kept, channels * kept
        if self._chance(self.options.flip, rng):
            image, channels = image.flip(0), self.table.mirrored.to(classes.device)[channels].flip(0)
        image = self._scan(image, rng)
        return image[None], channels[None].to(torch.uint8)

    def _uniform(self, shape: tuple[int, ...], largest: float, rng: torch.Generator) -> Tensor:
        """Draw from -largest to largest."""
        return (torch.rand(shape, generator=rng, device=rng.device) * 2 - 1) * largest

    def _positive(self, largest: float, rng: torch.Generator) -> float:
        return float(torch.rand((), generator=rng, device=rng.device)) * largest

    def _chance(self, probability: float, rng: torch.Generator) -> bool:
        return self._positive(1.0, rng) < probability

    def _affine(self, rng: torch.Generator) -> Tensor:
        angles = self._uniform((3,), self.options.rotation, rng).deg2rad()
        matrix = torch.diag(1 + self._uniform((3,), self.options.scaling, rng))
        matrix = matrix + self._uniform((3, 3), self.options.shearing, rng) * (1 - torch.eye(3, device=rng.device))
        for axis in range(3):
            cos, sin = angles[axis].cos(), angles[axis].sin()
            i, j = (axis + 1) % 3, (axis + 2) % 3
            rotation = torch.eye(3, device=rng.device)
            rotation[i, i], rotation[j, j], rotation[i, j], rotation[j, i] = cos, cos, -sin, sin
            matrix = rotation @ matrix
        return matrix

    def _smooth_field(self, channels: int, size: tuple[int, ...], points: list[int], rng: torch.Generator) -> Tensor:
        """Draw a standard normal field on ``points`` and resample it to ``size``, shape (channels, X, Y, Z)."""
        coarse = torch.randn((1, channels, *points), generator=rng, device=rng.device)
        return F.interpolate(coarse, size=size, mode="trilinear", align_corners=True)[0]

    def _deform(
        self, label_map: LabelMap, size: tuple[int, int, int], spacing: float, strip: bool, rng: torch.Generator
    ) -> Tensor:
        """Sample the label map on a shifted, rotated, scaled and bent grid, shape (X, Y, Z), int64."""
        device = label_map.classes.device
        matrix = self._affine(rng)
        centre = self._uniform((3,), self.options.shift if strip else self.options.head_shift, rng)
        points = [max(3, round(n * spacing / self.options.elastic_spacing) + 1) for n in size]
        bend = self._smooth_field(3, size, points, rng) * self._positive(self.options.elastic_sd, rng)

        axes = [(torch.arange(n, device=device) - (n - 1) / 2) * spacing for n in size]
        flat = torch.zeros(size, dtype=torch.int64, device=device)
        inside = torch.ones(size, dtype=torch.bool, device=device)
        for row in range(3):
            # mm from the brain's centre, along one axis of the label map
            position = bend[row] + centre[row]
            for column, axis in enumerate(axes):
                shape = [1, 1, 1]
                shape[column] = -1
                position = position + (matrix[row, column] * axis).reshape(shape)
            voxel = (position / label_map.spacing[row].to(device) + label_map.brain_centre[row].to(device)).round()
            length = label_map.classes.shape[row]
            inside &= (voxel >= 0) & (voxel < length)
            flat = flat * length + voxel.clamp(0, length - 1).long()
        return label_map.classes.flatten()[flat].long() * inside

    def _paint(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """Give each voxel an intensity from the Gaussian of its tissue, shape (X, Y, Z)."""
        tissues = len(self.priors.mean)
        draws = torch.randn((tissues,), generator=rng, device=rng.device)
        means = self.priors.mean.to(rng.device) + draws * self.priors.spread.to(rng.device)
        spreads = torch.rand((tissues,), generator=rng, device=rng.device) * self.options.texture
        tissue = self.priors.tissue_of_class.to(classes.device)
        grain = torch.randn(classes.shape, generator=rng, device=rng.device)
        return (means[tissue][classes] + spreads[tissue][classes] * grain).clamp(min=0)

    def _brain_mask(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """A brain mask as a skull-stripping tool would draw it: closed over the sulci, sometimes with a rim of CSF."""
        grow = 1 + int(self._positive(2.0, rng))
        shrink = int(self._positive(grow + 1.0, rng))
        brain = self.table.is_brain.to(classes.device)[classes]
        closed = -self._dilate(-self._dilate(brain[None].float(), grow), shrink)[0] > 0.5
        # A rim may hold what lies behind the fluid; a tight mask never cuts tissue.
        return brain | (closed if self._chance(0.5, rng) else closed & (classes == self.csf))

    def _scan(self, image: Tensor, rng: torch.Generator) -> Tensor:
        """Bias field, gamma, blur, thick slices and noise, shape (X, Y, Z)."""
        size = tuple(image.shape)
        background = image == 0
        bias = self._smooth_field(1, size, [4, 4, 4], rng)[0] * self._positive(self.options.bias, rng)
        image = image * bias.exp()
        image = image.clamp(min=1e-4) ** self._uniform((), self.options.gamma, rng).exp()
        image = image.masked_fill(background, 0.0)[None, None]
        image = self._blur(image, self._positive(self.options.blur, rng))
        if self._chance(self.options.thick_slices, rng):
            coarse = list(size)
            axis = int(self._positive(3.0, rng))
            coarse[axis] = max(2, round(size[axis] / (1 + self._positive(self.options.thickness - 1, rng))))
            image = F.interpolate(F.interpolate(image, size=coarse, mode="area"), size=size, mode="trilinear")
        noise = torch.randn(size, generator=rng, device=rng.device) * self._positive(self.options.noise, rng)
        return (image[0, 0] + noise * (image[0, 0] > 0)).clamp(min=0)

    @staticmethod
    def _dilate(mask: Tensor, radius: int) -> Tensor:
        """Dilate (1, X, Y, Z) by a cube."""
        for axis in range(3):
            kernel, padding = [1, 1, 1], [0, 0, 0]
            kernel[axis], padding[axis] = 2 * radius + 1, radius
            mask = F.max_pool3d(mask, kernel, stride=1, padding=padding)
        return mask

    @staticmethod
    def _blur(image: Tensor, sigma: float) -> Tensor:
        """Blur (1, 1, X, Y, Z) with a Gaussian of ``sigma`` voxels."""
        if sigma < 0.2:
            return image
        offsets = torch.arange(-2, 3, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        kernel = kernel / kernel.sum()
        for axis in range(3):
            shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
            shape[axis + 2], padding[axis] = -1, 2
            image = F.conv3d(image, kernel.reshape(shape), padding=padding)
        return image
