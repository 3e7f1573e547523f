"""Command lines of tensorflow_model_server are taken as they are."""
from __future__ import annotations

import pytest
from google.protobuf import text_format

from tfrecal.serving.server.config_protos import (
    BatchingParameters,
    MonitoringConfig,
    SSLConfig,
)
from tfrecal.serving.server.flags import options_of, parse_flags


def test_defaults_are_those_of_the_real_server():
    options = parse_flags([])
    assert (options.port, options.rest_api_port) == (8500, 0)
    assert options.model_name == "default"
    assert options.max_num_load_retries == 5
    assert options.load_retry_interval_micros == 60_000_000
    assert options.enable_model_warmup is True
    assert options.enable_batching is False


def test_values_and_bare_switches():
    options = parse_flags([
        "--port=9000", "--enable_batching", "--enable_model_warmup=false",
        "--model_config_file_poll_wait_seconds=2", "--model_name=shop"])
    assert (options.port, options.model_name) == (9000, "shop")
    assert options.enable_batching and not options.enable_model_warmup
    assert options.model_config_file_poll_wait_seconds == 2


def test_unknown_flags_do_not_stop_it(capsys):
    options = parse_flags(["--portt=1", "--enable_profiler=false", "extra",
                           "--mod=x", "--port=1"])
    assert options.port == 1 and options.model_name == "default"
    text = capsys.readouterr().err
    assert "Unknown flag, not used: --portt=1" in text
    assert "Unknown flag, not used: --mod=x" in text
    assert "`--enable_profiler` has no meaning for this server." in text


@pytest.mark.parametrize("flag", [
    "--port=eighty", "--port=-1", "--enable_batching=maybe",
    "--grpc_max_threads=-1"])
def test_bad_values_end_it(flag, capsys):
    with pytest.raises(SystemExit) as seen:
        parse_flags([flag])
    assert seen.value.code == 2
    assert flag.partition("=")[0] in capsys.readouterr().err


def test_options_from_python():
    assert options_of(port=None).port is None
    with pytest.raises(TypeError, match="`prot` must be a flag"):
        options_of(prot=1)


def test_config_files_that_the_real_server_reads():
    ssl = text_format.Parse(
        'server_key: "k" server_cert: "c" custom_ca: "a" '
        "client_verify: true", SSLConfig())
    assert ssl.client_verify and ssl.server_cert == "c"
    monitoring = text_format.Parse(
        'prometheus_config { enable: true path: "/m" }', MonitoringConfig())
    assert monitoring.prometheus_config.path == "/m"
    batching = text_format.Parse(
        "max_batch_size { value: 128 } batch_timeout_micros { value: 0 } "
        "max_enqueued_batches { value: 100 } num_batch_threads { value: 8 } "
        'thread_pool_name { value: "p" } allowed_batch_sizes: 64 '
        "allowed_batch_sizes: 128 pad_variable_length_inputs: true "
        "enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 128 }", BatchingParameters())
    assert batching.max_batch_size.value == 128
    assert list(batching.allowed_batch_sizes) == [64, 128]
