"""Model shapes by name, as plain data.

| preset | parameters (1,025 tokens) | frames | made for |
|---|---|---|---|
| tiny | 1.6 M (1.4 M with letters) | 40 ms | an hour of speech, two cores |
| small | 3.3 M | 40 ms | some hours |
| base | 11 M | 40 ms | tens of hours |
| medium | 30 M | 80 ms | hundreds of hours; FastConformer-M |
| large | 109 M | 80 ms | a thousand hours; FastConformer-L |
| xlarge | 609 M | 80 ms | parakeet-ctc-0.6b |
| xxlarge | 1.1 B | 80 ms | parakeet-ctc-1.1b |

Frames of 40 ms (4x subsampling) leave CTC room for letters; 80 ms want larger tokens. Subsampling
channels are few in the small presets: on CPUs those convolutions cost more than their parameters say.
"""

from __future__ import annotations

from typing import Any

Shape = dict[str, Any]

PRESETS: dict[str, Shape] = {
    "tiny": {
        "hidden_size": 128,
        "num_layers": 5,
        "num_heads": 4,
        "ff_size": 256,
        "conv_kernel_size": 15,
        "subsampling_factor": 4,
        "subsampling_channels": 32,
        "conv_norm": "layer_norm",
        "dropout": 0.1,
    },
    "small": {
        "hidden_size": 144,
        "num_layers": 6,
        "num_heads": 4,
        "ff_size": 576,
        "conv_kernel_size": 15,
        "subsampling_factor": 4,
        "subsampling_channels": 32,
        "conv_norm": "layer_norm",
        "dropout": 0.1,
    },
    "base": {
        "hidden_size": 192,
        "num_layers": 12,
        "num_heads": 4,
        "ff_size": 768,
        "conv_kernel_size": 15,
        "subsampling_factor": 4,
        "subsampling_channels": 64,
        "conv_norm": "layer_norm",
        "dropout": 0.1,
    },
    "medium": {
        "hidden_size": 256,
        "num_layers": 18,
        "num_heads": 4,
        "ff_size": 1024,
        "conv_kernel_size": 9,
        "subsampling_factor": 8,
        "subsampling_channels": 256,
        "conv_norm": "layer_norm",
        "dropout": 0.1,
    },
    "large": {
        "hidden_size": 512,
        "num_layers": 17,
        "num_heads": 8,
        "ff_size": 2048,
        "conv_kernel_size": 9,
        "subsampling_factor": 8,
        "subsampling_channels": 256,
        "conv_norm": "layer_norm",
        "dropout": 0.1,
    },
    "xlarge": {
        "hidden_size": 1024,
        "num_layers": 24,
        "num_heads": 8,
        "ff_size": 4096,
        "conv_kernel_size": 9,
        "subsampling_factor": 8,
        "subsampling_channels": 256,
        "conv_norm": "layer_norm",
        "dropout": 0.1,
    },
    "xxlarge": {
        "hidden_size": 1024,
        "num_layers": 42,
        "num_heads": 8,
        "ff_size": 4096,
        "conv_kernel_size": 9,
        "subsampling_factor": 8,
        "subsampling_channels": 256,
        "conv_norm": "layer_norm",
        "dropout": 0.1,
    },
}
