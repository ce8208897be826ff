"""A model whose weights are the mean of two that were trained one from the other.

    python benchmarks/average_models.py FIRST SECOND SHARE NAME OUTPUT [PART ...]

FIRST, SECOND and OUTPUT are model files; SHARE is what the second counts, 0 to 1, in the parts of
the network that are named (``interaction_stream``, say), or in all; the others stay the first's.
Means of weights along one training are often better than either end (Izmailov et al., UAI 2018).
The card is the second's under NAME, without its metrics, and names both files by their SHA-256.
"""

from __future__ import annotations

import sys
from pathlib import Path

from napari_fctsfn.models import load_model, save_model


def main() -> None:
    first, second = (load_model(Path(path)) for path in sys.argv[1:3])
    share, name, output = float(sys.argv[3]), sys.argv[4], Path(sys.argv[5])
    parts = tuple(sys.argv[6:])
    weights = second.network.state_dict()
    for key, before in first.network.state_dict().items():
        if parts and key.split(".")[0] not in parts:
            weights[key] = before
        elif weights[key].is_floating_point():
            weights[key] = (1 - share) * before + share * weights[key]
    second.network.load_state_dict(weights)
    training = {
        **second.card.training,
        "mean_of": {first.sha256: round(1 - share, 4), second.sha256: share},
        **({"mean_in": list(parts)} if parts else {}),
    }
    card = second.card.model_copy(update={"name": name, "training": training, "metrics": {}})
    save_model(output, second.network, card)
    print(f"{output}: SHA-256 {load_model(output).sha256}")


if __name__ == "__main__":
    main()
