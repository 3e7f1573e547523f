"""Links ScaNN's ops into the sources of TensorFlow Serving.

`Dockerfile.scann` runs it: python3 link_ops.py SERVING SCANN. It stops where
the sources are not as in TensorFlow Serving 2.20 and ScaNN 1.4.2, rather than
let Bazel find out hours later.
"""
from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

# ScaNN's build files name an installed TensorFlow and their own Eigen. Both
# must be the ones that the server is built of: two registries of ops in one
# process know nothing of each other.
_LABELS = {
    r'"@local_config_tf//:libtensorflow_framework"':
        '"@org_tensorflow//tensorflow/core:framework"',
    r'"@local_config_tf//:tf_header_lib"':
        '"@org_tensorflow//tensorflow/core:lib"',
    r'"@eigen(//:\w+)?"': '"@eigen_archive//:eigen3"'}
_FOREIGN = re.compile(r'"@(local_config_tf|eigen)[/"]')
_OPS = ("scann_ops", "scann_ops_kernels")
_BEFORE = '    "@org_tensorflow_text//tensorflow_text:ops_lib",\n'


def main(serving: Path, scann: Path) -> None:
    """Edits both folders.

    Args:
        serving: sources of TensorFlow Serving.
        scann: those of ScaNN, the folder with `MODULE.bazel`.

    Raises:
        SystemExit: something to be edited is not where it should be.
    """
    ops = scann / "scann/scann_ops/cc/BUILD.bazel"
    for name in _OPS:
        _require(ops, f'name = "{name}"')
    _relabel(scann)
    # Bazel takes a folder as a repository only if it holds this file.
    (scann / "WORKSPACE").touch()
    added = "".join(f'    "@scann//scann/scann_ops/cc:{name}",\n'
                    for name in _OPS)
    build = serving / "tensorflow_serving/model_servers/BUILD"
    _require(build, _BEFORE)
    build.write_text(build.read_text().replace(_BEFORE, _BEFORE + added))
    package = serving / "third_party/scann"
    package.mkdir(parents=True)
    (package / "BUILD").touch()
    shutil.copy(Path(__file__).with_name("repositories.bzl"), package)
    workspace = serving / "WORKSPACE"
    _require(workspace, "tf_serving_workspace()")
    with workspace.open("a") as file:
        file.write('\nload("//third_party/scann:repositories.bzl", '
                   '"scann_repositories")\n'
                   f'scann_repositories("{scann.resolve()}")\n')


def _relabel(scann: Path) -> None:
    for path in (scann / "scann").rglob("BUILD.bazel"):
        text = path.read_text()
        for label, ours in _LABELS.items():
            text = re.sub(label, ours, text)
        path.write_text(text)
        if left := _FOREIGN.search(text):
            sys.exit(f"{path} must name only parts of TensorFlow that have a "
                     f"counterpart in its sources. Received: {left[0]}...")


def _require(path: Path, text: str) -> None:
    if not path.is_file() or text not in path.read_text():
        sys.exit(f"{path} must hold {text.strip()!r}. Received: a file "
                 "without it, or none. Is it another version than the one "
                 "in Dockerfile.scann?")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
