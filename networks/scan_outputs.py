"""A network that gives outputs for the whole scan, as a module with one method."""

# No postponed annotations here: TorchScript reads them.
from torch import Tensor, nn

from networks.transformer_unet import TransformerUNet


class ScanOutputs(nn.Module):
    """``TransformerUNet`` with ``forward_with_outputs`` as its ``forward``, for training, ``torch.export`` and ONNX.

    Args:
        network: the network; its state-dict keys follow ``network.``.

    Raises:
        ValueError: when the network has no ``num_outputs``.
    """

    def __init__(self, network: TransformerUNet) -> None:
        super().__init__()
        if not network.has_outputs:
            raise ValueError("network must have num_outputs of at least 1, got 0.")
        self.network = network
        self.in_channels = network.in_channels
        self.num_outputs = network.num_outputs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map an image (B, in_channels, D, H, W) to logits (B, out_channels, D, H, W) and outputs (B, num_outputs).

        Raises:
            ValueError: when the input is not 5-dimensional with ``in_channels`` channels.
        """
        return self.network.forward_with_outputs(x)
