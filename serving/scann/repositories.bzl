"""The repositories that ScaNN needs beside those of TensorFlow."""

load("@bazel_tools//tools/build_defs/repo:git.bzl", "git_repository")
load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")

def scann_repositories(path):
    """Declares ScaNN and what it depends on.

    Abseil (20250127.1), Protocol Buffers (28.3) and Eigen are those of
    TensorFlow 2.20, which are the versions that ScaNN 1.4.2 asks for.

    Args:
      path: folder of ScaNN's sources.
    """
    native.local_repository(name = "scann", path = path)
    git_repository(
        name = "cnpy",
        remote = "https://github.com/sammymax/cnpy.git",
        commit = "57184ee0db37cac383fc29175950747a46a8b512",
    )
    if not native.existing_rule("com_google_highway"):
        http_archive(
            name = "com_google_highway",
            strip_prefix = "highway-1.3.0",
            sha256 = "07b3c1ba2c1096878a85a31a5b9b3757427af963b1141ca904db2f9f4afe0bc2",
            urls = ["https://github.com/google/highway/archive/refs/tags/1.3.0.tar.gz"],
        )
    if not native.existing_rule("rules_license"):
        http_archive(
            name = "rules_license",
            sha256 = "26d4021f6898e23b82ef953078389dd49ac2b5618ac564ade4ef87cced147b38",
            urls = ["https://github.com/bazelbuild/rules_license/releases/download/1.0.0/rules_license-1.0.0.tar.gz"],
        )
