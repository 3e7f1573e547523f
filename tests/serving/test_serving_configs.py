"""The files in serving/ are what their readers take, and fit together."""
from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import serving_models
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

import tfrecal
from tfrecal.serving.server.config_protos import (
    BatchingParameters,
    MonitoringConfig,
    SSLConfig,
)
from tfrecal.serving.server.flags import parse_flags

ROOT = Path(__file__).parents[2]
SERVING = ROOT / "serving"
README = (SERVING / "README.md").read_text()
SERVERS = ("stock", "scann", "local")
CONFIGS = {
    "models.config": model_server_config_pb2.ModelServerConfig,
    "batching.config": BatchingParameters,
    "monitoring.config": MonitoringConfig,
    "ssl.config.example": SSLConfig}
# Of tensorflow_model_server 2.20, from its main.cc.
FLAGS = set("""
    port grpc_socket_path rest_api_port rest_api_num_threads grpc_max_threads
    rest_api_timeout_in_ms rest_api_enable_cors_support model_name
    model_base_path model_config_file model_config_file_poll_wait_seconds
    file_system_poll_wait_seconds max_num_load_retries
    load_retry_interval_micros num_load_threads num_unload_threads
    enable_batching batching_parameters_file
    enable_per_model_batching_parameters
    allow_version_labels_for_unavailable_models enable_model_warmup
    num_request_iterations_for_warmup monitoring_config_file ssl_config_file
    use_alts_credentials grpc_channel_arguments
    enable_grpc_healthcheck_service saved_model_tags
    enable_signature_method_name_check enable_serialization_as_tensor_content
    flush_filesystem_caches tensorflow_session_parallelism
    tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism
    tensorflow_session_config_file platform_config_file prefer_tflite_model
    num_tflite_pools num_tflite_interpreters_per_pool enable_profiler
    remove_unused_fields_from_bundle_metagraph xla_cpu_compilation_enabled
    xla_gpu_compilation_enabled per_process_gpu_memory_fraction
    thread_pool_factory_config_file mixed_precision skip_initialize_tpu
    version""".split())


def parsed(name, text=None):
    return text_format.Parse(
        text or (SERVING / name).read_text(), CONFIGS[name]())


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((SERVING / "compose.yaml").read_text())["services"]


@pytest.fixture(scope="module")
def kubernetes():
    found = list(yaml.safe_load_all((SERVING / "kubernetes.yaml").read_text()))
    assert {item["apiVersion"] for item in found} == {"v1", "apps/v1"}
    return {item["kind"]: item for item in found}


def client_default(name):
    from tfrecal.serving.client.client import Recommender
    return inspect.signature(Recommender).parameters[name].default


def pinned(name):
    """The version of a package in setup.cfg."""
    return re.search(rf"^    {name}==(\S+)$",
                     (ROOT / "setup.cfg").read_text(), re.M)[1]


# Configs in text form of a proto.

def test_models_are_where_the_client_and_the_volumes_have_them(compose):
    model, = parsed("models.config").model_config_list.config
    assert model.name == client_default("model")
    assert model.base_path == f"/models/{model.name}"
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.latest.num_versions == 1
    assert not model.version_labels     # a server cannot start with them


def test_batches_hold_the_largest_request_of_the_client():
    found = parsed("batching.config")
    assert found.max_batch_size.value >= client_default("max_batch")
    assert 0 < found.batch_timeout_micros.value < 10_000
    assert found.max_enqueued_batches.value > 0
    assert found.num_batch_threads.value > 0


def test_the_example_of_tls_has_all_fields_and_no_key():
    found = parsed("ssl.config.example")
    for text in (found.server_key, found.server_cert, found.custom_ca):
        begin, inside, end, rest = text.split("\n")
        assert begin.startswith("-----BEGIN") and end.startswith("-----END")
        assert (inside, rest) == ("(base64)", "")
    assert found.client_verify


def test_the_readme_writes_a_tls_config(tmp_path):
    pem = {name: f"-----BEGIN {name}-----\nab+/c=\n-----END {name}-----\n"
           for name in ("server.key", "server.crt")}
    for name, text in pem.items():
        (tmp_path / name).write_text(text)
    script, = (block for block in code_blocks("sh") if "> ssl.config" in block)
    subprocess.run(["bash", "-eu", "-c", script], cwd=tmp_path, check=True)
    written = tmp_path / "ssl.config"
    found = parsed("ssl.config.example", written.read_text())
    assert found.server_key == pem["server.key"]
    assert found.server_cert == pem["server.crt"]
    assert not found.client_verify
    assert written.stat().st_mode & 0o077 == 0


# Compose and Prometheus.

def test_compose_runs_the_three_servers_alike(compose):
    assert set(compose) == {*SERVERS, "prometheus"}
    stock = compose["stock"]
    for name in SERVERS:
        service = compose[name]
        for key in ("command", "volumes", "healthcheck"):
            assert service[key] == stock[key]
        assert_flags(service["command"])
        assert service.get("entrypoint", ["tensorflow_model_server"]) == [
            "tensorflow_model_server"]
    assert "entrypoint" not in compose["local"]     # that of its image
    assert set(stock["volumes"]) == {
        "${MODELS:-../models}:/models:ro", ".:/config:ro"}


def test_compose_ports_are_for_this_machine_and_in_the_readme(compose):
    ports = {name: [port.split(":") for port in service["ports"]]
             for name, service in compose.items()}
    outside = [port[1] for found in ports.values() for port in found]
    assert len(set(outside)) == len(outside)
    assert {port[0] for found in ports.values() for port in found} == {
        "127.0.0.1"}
    flags = parse_flags(compose["stock"]["command"])
    for number, (row, flag) in enumerate((
            ("gRPC", flags.port), ("REST", flags.rest_api_port))):
        assert {ports[name][number][2] for name in SERVERS} == {str(flag)}
        shown = " | ".join(ports[name][number][1] for name in SERVERS)
        assert f"| {row} | {shown} |" in README


def test_images_are_pinned_and_of_the_stack(compose):
    stack = pinned("tensorflow-serving-api")
    assert {name: service["image"] for name, service in compose.items()} == {
        "stock": f"tensorflow/serving:{stack}",
        "scann": f"tfrecal/serving-scann:{stack}",
        "local": f"tfrecal/serving-local:{tfrecal.__version__}",
        "prometheus": "prom/prometheus:v3.5.0"}


def test_compose_builds_from_files_that_exist(compose):
    for name in ("scann", "local"):
        build = compose[name]["build"]
        context = (SERVING / build["context"]).resolve()
        file = context / build["dockerfile"]
        assert file == SERVING / f"Dockerfile.{name}" and file.is_file()
        assert_copies_exist(file, context)
        assert f"-t {compose[name]['image']} " in file.read_text()


def test_prometheus_scrapes_every_server(compose):
    found = yaml.safe_load((SERVING / "prometheus.yml").read_text())
    port = parse_flags(compose["stock"]["command"]).rest_api_port
    path = parsed("monitoring.config").prometheus_config.path
    assert parsed("monitoring.config").prometheus_config.enable
    assert [(job["job_name"], job["metrics_path"],
             job["static_configs"][0]["targets"])
            for job in found["scrape_configs"]] == [
        (name, path, [f"{name}:{port}"]) for name in SERVERS]
    assert "--config.file=/config/prometheus.yml" in \
        compose["prometheus"]["command"]


@pytest.mark.parametrize("extra", [[], [
    "--enable_batching", "--batching_parameters_file=/config/batching.config"
    ]])
def test_a_server_runs_with_these_files(compose, tmp_path, extra):
    from tfrecal.serving.server.server import Server
    serving_models.write_model(tmp_path / "models/recommender/1")
    configs = shutil.copytree(SERVING, tmp_path / "config")
    for path in configs.glob("*.config"):
        path.write_text(path.read_text().replace("/models", f"{tmp_path}"
                                                 "/models"))
    options = parse_flags([
        flag.replace("/config/", f"{configs}/")
        for flag in compose["local"]["command"] + extra])
    options.port = options.rest_api_port = None
    server = Server(options)
    server.start()
    try:
        check = compose["local"]["healthcheck"]["test"]
        assert check[0] == "CMD"
        check = [part.replace("/8501 ", f"/{server.rest_port} ")
                 for part in check[1:]]
        assert subprocess.run(check).returncode == 0
        other = [part.replace("recommender", "other") for part in check]
        assert subprocess.run(other).returncode == 1
        path = parsed("monitoring.config").prometheus_config.path
        page = urllib.request.urlopen(
            f"http://127.0.0.1:{server.rest_port}{path}").read().decode()
        # The names of the README's queries.
        for name in re.findall(r"rate\((:[\w:]+)[\[{]", README):
            assert re.search(rf"^{name}\{{", page, re.M)
    finally:
        server.stop(0)


# Kubernetes.

def test_kubernetes_has_the_same_configs_and_flags(kubernetes, compose):
    config = kubernetes["ConfigMap"]["data"]
    assert set(config) == {"models.config", "monitoring.config"}
    for name, text in config.items():
        assert parsed(name, text) == parsed(name)
    server = container(kubernetes)
    assert server["image"] == compose["stock"]["image"]
    assert server["command"] == compose["stock"]["entrypoint"]
    assert server["args"] == compose["stock"]["command"]


def test_kubernetes_probes_ask_open_ports(kubernetes):
    server = container(kubernetes)
    flags = parse_flags(server["args"])
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert ports == {"grpc": flags.port, "rest": flags.rest_api_port}
    assert flags.enable_grpc_healthcheck_service
    for probe in ("startupProbe", "livenessProbe"):
        assert server[probe]["grpc"] == {"port": flags.port}
    assert server["readinessProbe"]["httpGet"] == {
        "path": f"/v1/models/{client_default('model')}/metadata",
        "port": "rest"}
    notes = kubernetes["Deployment"]["spec"]["template"]["metadata"][
        "annotations"]
    assert notes["prometheus.io/port"] == str(flags.rest_api_port)
    assert notes["prometheus.io/path"] == parsed(
        "monitoring.config").prometheus_config.path


def test_kubernetes_parts_find_each_other(kubernetes):
    pod = kubernetes["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    service = kubernetes["Service"]["spec"]
    assert kubernetes["Deployment"]["spec"]["selector"]["matchLabels"] == \
        service["selector"] == labels
    assert service["clusterIP"] == "None"
    assert {(port["port"], port["targetPort"]) for port in service["ports"]
            } == {(8500, "grpc"), (8501, "rest")}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == \
        kubernetes["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["config"]["configMap"]["name"] == \
        kubernetes["ConfigMap"]["metadata"]["name"]
    server = container(kubernetes)
    assert {mount["name"]: mount["mountPath"]
            for mount in server["volumeMounts"]} == {
        "models": "/models", "config": "/config", "tmp": "/tmp"}
    assert set(volumes) == {"models", "config", "tmp"}
    assert {"cpu", "memory"} <= set(server["resources"]["requests"])
    waits = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert waits < pod["spec"]["terminationGracePeriodSeconds"]


# Images.

@pytest.mark.parametrize("name", ["scann", "local"])
def test_dockerfiles_pin_what_they_fetch(name):
    stages = set()
    for word, text in instructions(SERVING / f"Dockerfile.{name}"):
        if word == "FROM":
            image, _, stage = text.partition(" AS ")
            assert re.search(r":\d+\.\d+\.\d+[\w.-]*$", image), image
            stages.add(stage)
        if word == "RUN":
            # A pipe from the net into a shell, a moving branch or key.
            assert not re.search(r"(curl|wget)[^|&]*\|", text), text
            assert "git clone" not in text and "master" not in text
            if "curl" in text:
                assert re.search(r"[0-9A-F]{40}|sha256sum", text)
            if "pip install" in text:
                assert '".[scann,serving]"' in text
        if word == "ARG" and "COMMIT" in text:
            assert re.fullmatch(r"\w+=[0-9a-f]{40}", text)
    assert stages == ({"build", ""} if name == "scann" else {""})


def test_the_scann_build_is_of_the_stack():
    text = (SERVING / "Dockerfile.scann").read_text()
    stack = pinned("tensorflow-serving-api")
    assert set(re.findall(r"tensorflow/serving:([\d.]+)", text)) == {stack}
    assert pinned("tensorflow") == stack
    assert f"ScaNN {pinned('scann')}" in text
    bzl = (SERVING / "scann/repositories.bzl").read_text()
    for archive in re.findall(r"http_archive\((.*?)\n        \)", bzl, re.S):
        assert re.search(r'sha256 = "[0-9a-f]{64}"', archive)
    assert re.search(r'commit = "[0-9a-f]{40}"', bzl)


def test_tensorflow_has_the_libraries_that_scann_asks_for():
    import tensorflow as tf
    include = Path(tf.sysconfig.get_include())
    protobuf = (include / "google/protobuf/stubs/common.h").read_text()
    absl = (include / "absl/base/config.h").read_text()
    number = int(re.search(r"GOOGLE_PROTOBUF_VERSION (\d+)", protobuf)[1])
    found = {"Protocol Buffers": f"{number // 1000 % 1000}.{number % 1000}",
             "Abseil": ".".join(
                 re.search(rf"define ABSL_LTS_RELEASE_{part} (\d+)", absl)[1]
                 for part in ("VERSION", "PATCH_LEVEL"))}
    for name, version in found.items():
        assert f"{name} {version}" in " ".join(README.split())


@pytest.fixture
def sources(tmp_path):
    """Build files of the form that both projects publish, cut short."""
    files = {
        "serving/WORKSPACE": "tf_serving_workspace()\n",
        "serving/tensorflow_serving/model_servers/BUILD": (
            "SUPPORTED_TENSORFLOW_OPS = if_v2([]) + [\n"
            '    "@org_tensorflow_text//tensorflow_text:ops_lib",\n]\n'),
        "scann/scann/oss_wrappers/BUILD.bazel": (
            'cc_library(\n    name = "tf_dependency",\n    deps = [\n'
            '        "@local_config_tf//:libtensorflow_framework",\n'
            '        "@local_config_tf//:tf_header_lib",\n'
            '        "@eigen",\n        "@eigen//:eigen",\n    ],\n)\n'),
        "scann/scann/scann_ops/cc/BUILD.bazel": (
            'cc_library(\n    name = "scann_ops",\n)\n'
            'cc_library(\n    name = "scann_ops_kernels",\n)\n')}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def link(sources):
    return subprocess.run(
        [sys.executable, SERVING / "scann/link_ops.py", sources / "serving",
         sources / "scann"], capture_output=True, text=True)


def test_link_ops_edits_both_sources(sources):
    done = link(sources)
    assert (done.returncode, done.stderr) == (0, "")
    build = sources / "serving/tensorflow_serving/model_servers/BUILD"
    assert build.read_text().count("@scann//scann/scann_ops/cc:scann_ops") == 2
    wrappers = (sources / "scann/scann/oss_wrappers/BUILD.bazel").read_text()
    assert re.findall(r'"(@\S+)"', wrappers) == [
        "@org_tensorflow//tensorflow/core:framework",
        "@org_tensorflow//tensorflow/core:lib",
        "@eigen_archive//:eigen3", "@eigen_archive//:eigen3"]
    assert (sources / "scann/WORKSPACE").exists()
    workspace = (sources / "serving/WORKSPACE").read_text()
    assert f'scann_repositories("{(sources / "scann").resolve()}")' in \
        workspace
    package = sources / "serving/third_party/scann"
    assert {path.name for path in package.iterdir()} == {
        "BUILD", "repositories.bzl"}


@pytest.mark.parametrize("path, old, new, message", [
    ("serving/WORKSPACE", "tf_serving_workspace", "other", "WORKSPACE must"),
    ("serving/tensorflow_serving/model_servers/BUILD", "ops_lib", "other",
     "model_servers/BUILD must hold"),
    ("scann/scann/scann_ops/cc/BUILD.bazel", "_kernels", "", "must hold"),
    ("scann/scann/oss_wrappers/BUILD.bazel", ":tf_header_lib", ":other",
     "counterpart")])
def test_link_ops_stops_at_other_sources(sources, path, old, new, message):
    file = sources / path
    file.write_text(file.read_text().replace(old, new))
    done = link(sources)
    assert done.returncode == 1 and message in done.stderr


# The guide.

def test_the_readme_names_every_file_and_only_flags_that_exist():
    for path in SERVING.iterdir():
        if not path.name.startswith((".", "__")) and path.name != "README.md" \
                and not path.name.endswith(".dockerignore"):
            assert f"`{path.name}{'/' * path.is_dir()}`" in README
    guide, title, differences = README.partition(
        "## Where the local server differs\n")
    assert title and "| `tensorflow_model_server` | `tfrecal serve` |" in \
        differences
    flag = r"--[a-z]+_[a-z_]+|--port"
    assert_flags(re.findall(flag, guide))
    assert_flags(re.findall(flag, differences), FLAGS | {
        "max_concurrent_requests"})


def test_configs_of_the_readme_are_read():
    whole = (SERVING / "models.config").read_text()
    blocks = [block for block in code_blocks("text")
              if "model_version_policy" in block]
    assert len(blocks) == 2
    for block in blocks:
        text = re.sub(r"model_version_policy .*", lambda _: block, whole)
        model, = parsed("models.config", text).model_config_list.config
        versions = model.model_version_policy.specific.versions
        assert versions and set(model.version_labels.values()) <= set(versions)


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def assert_flags(arguments, known=FLAGS):
    assert arguments
    names = {argument.removeprefix("--").partition("=")[0]
             for argument in arguments}
    assert names <= known, names - known


def container(kubernetes):
    found, = kubernetes["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


def instructions(path):
    """`(word, rest)` of each instruction of a Dockerfile."""
    lines = [line for line in path.read_text().splitlines()
             if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [line.split(" ", 1) for line in text.splitlines() if line]


def assert_copies_exist(path, context):
    copies = [text for word, text in instructions(path) if word == "COPY"]
    assert copies
    for text in copies:
        if not text.startswith("--from="):
            for source in text.split()[:-1]:
                assert (context / source).exists(), source
