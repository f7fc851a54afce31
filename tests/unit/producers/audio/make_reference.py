# ruff: noqa: T201 -- run by hand, in an environment of its own
"""What the original network says of the clips: `python make_reference.py FOLDER_OF_MSD_musicnn`.

Needs TensorFlow and librosa, which the tests do not. The graph is the one in the package `musicnn` 0.1.0, run by TensorFlow
on its own weights; the spectrogram is librosa's, as the package calls it (reflected at both ends, as librosa did then, and
not rounded to float16).
"""

import sys
from pathlib import Path

import librosa
import numpy as np
import tensorflow as tf
from clips import RATE, clips
from tensorflow.core.protobuf import meta_graph_pb2

PATCH = 187
OUTPUT = "model/batch_normalization_10/batchnorm/add_1"


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """Log-mel frames, (t, 96)."""
    mel = librosa.feature.melspectrogram(
        y=samples, sr=RATE, hop_length=256, n_fft=512, n_mels=96, pad_mode="reflect"
    )
    return np.log10(10000 * mel.T + 1)


def main(folder: Path) -> None:
    """Write the reference beside this file."""
    tf.compat.v1.disable_eager_execution()
    saved = meta_graph_pb2.MetaGraphDef()
    saved.ParseFromString((folder / ".meta").read_bytes())
    graph = tf.compat.v1.graph_util.extract_sub_graph(saved.graph_def, [OUTPUT])
    for node in graph.node:
        node.attr.pop("_output_shapes", None)
    tf.import_graph_def(graph, name="")
    reader = tf.compat.v1.train.NewCheckpointReader(f"{folder}/")  # its files have no name but a suffix
    weights = {
        f"{node.name}:0": reader.get_tensor(node.name)
        for node in graph.node
        if node.op in ("VariableV2", "VarHandleOp")
    }
    boolean, others = [], []
    for node in graph.node:
        if node.op == "Placeholder":
            (boolean if node.attr["dtype"].type == tf.bool.as_datatype_enum else others).append(
                f"{node.name}:0"
            )
    (given,) = others
    kept = {}
    with tf.compat.v1.Session() as session:
        for name, samples in clips().items():
            frames = spectrogram(samples)
            patches = np.stack([frames[at : at + PATCH] for at in range(0, len(frames) - PATCH + 1, PATCH)])
            feed = {given: patches, **dict.fromkeys(boolean, False), **weights}
            kept[f"{name}_embedding"] = session.run(f"{OUTPUT}:0", feed).mean(axis=0)
            kept[f"{name}_frames"] = frames[::60].astype(np.float32)
            print(name, patches.shape, kept[f"{name}_embedding"][:4])
    np.savez_compressed(Path(__file__).parent / "reference.npz", **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
