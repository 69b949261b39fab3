"""Settings of `harstream run`: precedence of their sources, validation, and secrecy of passwords."""

from __future__ import annotations

import logging
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from harstream import config
from harstream.__main__ import move_passwords
from harstream.cli import main
from harstream.config import RunConfig
from harstream.core.smoothing_section import Smoothing
from harstream.errors import ConfigError
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.settings_file import check_environment, read_file

SECRET = "s3cr3t-horse"


def broker_of(run_config: RunConfig) -> BrokerSettings:
    """Return the settings of the connection to a broker that is not the embedded one."""
    settings = run_config.read_broker_settings()
    assert settings is not None
    return settings


@pytest.fixture
def run(monkeypatch):
    """`harstream run` up to the start of the daemon: returns exit code, output and the settings."""
    monkeypatch.setattr("harstream.logs.set_up", lambda level, log_format: None)

    def invoke(*flags: str, **environment: str):
        served: list[RunConfig] = []
        monkeypatch.setattr("harstream.serve.app.run", lambda config, read_config: served.append(config))
        variables = {f"HARSTREAM_RUN_{name.upper()}": value for name, value in environment.items()}
        for name in list(variables):
            monkeypatch.setenv(name, variables[name])
        result = CliRunner().invoke(main, ["run", *flags], env=variables)
        for name in variables:
            monkeypatch.delenv(name)
        return result.exit_code, result.output, served[0] if served else None

    return invoke


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "harstream.toml"
        path.write_text(text)
        return str(path)

    return write


def test_without_settings_the_documented_defaults_hold(run):
    code, _, served = run()
    assert code == 0
    assert (served.broker, served.model, served.backend, served.qos) == (None, "phone", "auto", 1)
    assert (served.topic, served.labels_topic) == ("wearables/{device}/imu", "wearables/{device}/activity")
    assert served.http_address == ("127.0.0.1", 9464)
    assert served.read_broker_settings() is None
    assert served.status_topic == f"harstream/{served.instance}/status"
    assert served.instance
    assert (served.acc_unit, served.gyro_unit) == ("auto", "rad/s")


def test_flags_overrule_the_environment_and_that_overrules_the_file(run, toml):
    path = toml('instance = "file"\nmodel = "file"\nqos = 0\nidle-s = 7\nlog_level = "debug"\n')
    _, _, served = run("--config", path, "--instance", "flag", instance="env", model="env")
    assert (served.instance, served.model) == ("flag", "env")
    assert (served.qos, served.idle_s, served.log_level) == (0, 7.0, "debug")


def test_the_file_may_be_named_by_a_variable_too(run, toml):
    assert run(config=toml('instance = "file"'))[2].instance == "file"


def test_every_setting_can_be_given_in_all_three_ways(run, toml, tmp_path):
    (tmp_path / "f").write_text("x")
    file = str(tmp_path / "f")
    values = {
        "broker": "mqtts://host",
        "model": "m",
        "backend": "int8",
        "topic": "a/{partition}/{device}",
        "payload": "csv",
        "fields": '{ t_unit = "ms", columns = ["t", "ax", "ay", "az"] }',
        "axes": "-y x z",
        "labels_topic": "b/{device}",
        "events_topic": "c/{device}",
        "smoothing": "none",
        "unknown_below": "0.75",
        "partitions": "3",
        "worker_group": "ward",
        "qos": "0",
        "homeassistant_prefix": "haus",
        "http": "off",
        "page": "false",
        "instance": "i",
        "retain": "false",
        "will": "false",
        "client_id": "c",
        "mqtt_version": "3.1.1",
        "alpn": "mqtt",
        "ca": file,
        "cert": file,
        "key": file,
        "user": "u",
        "password_file": file,
        "acc_unit": "m/s2",
        "gyro_unit": "deg/s",
        "max_payload_bytes": "1000",
        "max_devices": "9",
        "idle_s": "8.5",
        "gather_s": "0.15",
        "silence_s": "45.5",
        "log_level": "error",
        "log_format": "json",
    }
    # Not beside partitions, qos 0, topic, a broker and no-retain.
    other = {"worker", "partition_count", "state_dir", "listen", "homeassistant", "acc_topic", "gyro_topic"}
    assert set(values) == set(config.KEYS) - other
    no = {"page", "retain", "will"}  # flags without a value
    flags = (f"--no-{key}" if key in no else f"--{config.OPTIONS[key].flag}={value}" for key, value in values.items())
    by_flags = run(*flags)[2]
    by_environment = run(**values)[2]
    bare = {"qos", "unknown_below", "max_payload_bytes", "max_devices", "idle_s", "gather_s", "silence_s"} | no
    written = {key: value if key in bare | {"fields"} else f'"{value}"' for key, value in values.items()}
    by_file = run(
        "--config", toml("".join(f"{config.OPTIONS[key].flag} = {value}\n" for key, value in written.items()))
    )[2]
    assert by_flags is not None
    assert by_flags == by_environment == by_file
    assert all(getattr(by_flags, key) != getattr(RunConfig(instance="_"), key) for key in values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('labels-topik = "x"', "'labels-topik' does not exist; did you mean 'labels_topic'?"),
        ("[mqtt]\nversion = 5", "'mqtt' does not exist"),
        ("qos = ", "config"),
        ("\udcff", "config"),
        pytest.param("qos = " + "[" * 100_000, "maximum recursion depth exceeded", id="deep"),
    ],
)
def test_a_file_with_an_unknown_key_or_no_toml_is_an_error(toml, tmp_path, text, message):
    path = tmp_path / "harstream.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_exit_2(run, tmp_path):
    code, output, _ = run("--config", str(tmp_path / "none.toml"))
    assert code == 2
    assert output == f"harstream: config: {tmp_path / 'none.toml'}: No such file or directory\n"


def test_an_unknown_variable_suggests_the_right_one(run):
    code, output, served = run(brokr="mqtt://host")
    assert (code, served) == (2, None)
    assert "HARSTREAM_RUN_BROKR" in output
    assert "did you mean 'HARSTREAM_RUN_BROKER'?" in output


def test_variables_without_the_prefix_are_ignored():
    check_environment({"HARSTREAM_DATA": "x", "HARSTREAM_WATCH_BROKER": "x", "PATH": "/"})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--backend", "onnx"], "onnx"),
        (["--qos", "2"], "2"),
        (["--mqtt-version", "4"], "4"),
        (["--acc-unit", "kg"], "kg"),
        (["--broker", "http://host"], "http"),
        (["--broker", "mqtt://host:99999"], "broker"),
        (["--broker", "mqtt://host/path"], "broker"),
        (["--broker", ""], "broker"),
        (["--topic", "wearables/{name}/imu"], "topic"),
        (["--topic", "wearables/imu", "--payload", "packed"], "packed messages name no device"),
        (["--topic", "p/{partition}/imu"], "so it needs a level {device} too"),
        (["--topic", "harstream/i/status", "--instance", "i"], "'harstream/i/status'"),
        (["--topic", "imu", "--payload", "fields", "--fields", '{ acc = "a" }'], "needs the place of the device"),
        (["--topic", "imu", "--payload", "csv", "--fields", 'columns = ["ax", "ay", "az"]'], "must be device"),
        (["--payload", "fields"], "needs the place of acc"),
        (["--payload", "csv"], "columns are not configured"),
        (["--payload", "xml"], "payload"),
        (["--fields", "{ acc = 1 }"], "fields: acc: expected a text or a list of texts"),
        (["--fields", '{ accel = "x" }'], "fields: 'accel' does not exist"),
        (["--fields", '{ acc = ["x", "y"] }'], "expected one path or three, got 2"),
        (["--fields", '{ t_unit = "h" }'], "t_unit"),
        (["--fields", 'columns = ["ax", "ay", "ax"]'], "a name is there twice"),
        (["--fields", 'columns = ["ax", "ay"]'], "ax, ay and az are not all"),
        (["--fields", 'columns = ["ax", "ay", "az", "gx"]'], "only some of gx"),
        (["--fields", "nonsense"], "expected a table in TOML"),
        *(
            (["--payload", name, "--fields", '{ acc = "a", t = "b" }'], f"would be ignored by payload = '{name}'")
            for name in ("auto", "json", "packed", "cbor", "msgpack", "senml", "sensor-logger", "csv")
        ),
        (
            ["--payload", "json", "--fields", '{ acc = "a", t = "b" }'],
            "would be ignored by payload = 'json'; leave t, acc out of fields, or set payload to fields or phyphox",
        ),
        (
            ["--payload", "phyphox", "--fields", '{ acc = ["a", "b", "c"], t_unit = "ms" }'],
            "t_unit would be ignored by payload = 'phyphox'; leave t_unit out of fields, or set payload to fields",
        ),
        (
            ["--payload", "csv", "--fields", '{ columns = ["ax", "ay", "az"], samples = "s" }'],
            "leave samples out of fields, or csv uses acc_scale, columns, gyro_scale, t_unit",
        ),
        (["--payload", "phyphox", "--fields", '{ gyro = "g" }'], "phyphox needs the ids of three buffers"),
        (
            ["--payload", "fields", "--fields", '{ acc = "a", t_unit = "ms" }'],
            "t_unit would be ignored without t in fields",
        ),
        (
            ["--payload", "csv", "--fields", '{ columns = ["ax", "ay", "az"], gyro_scale = 2.0 }'],
            "gyro_scale would be ignored without gyro in columns",
        ),
        (["--axes", "x y"], "does not name x, y and z once each"),
        (["--axes", "x y y"], "axes"),
        (["--topic", "$share/g/{device}"], "shared"),
        (["--labels-topic", "wearables/{device}/imu"], "match the same topics"),
        (["--events-topic", "wearables/{device}/imu"], "events-topic"),
        (["--events-topic", "wearables/{device}/activity"], "and labels-topic"),
        (["--events-topic", "harstream/{device}/status", "--instance", "i"], "'harstream/i/status'"),
        (["--events-topic", "none"], "events-topic"),
        (["--smoothing", "hmm"], "hmm"),
        (["--unknown-below", "1"], "'--unknown-below': 1.0 is not in the range 0.0<=x<=0.99"),
        (["--unknown-below", "nan"], "unknown-below"),
        (["--http", "9464"], "http"),
        (["--http", "host:x"], "http"),
        (["--http", "host:70000"], "http"),
        (["--http", "host:1²"], "http"),
        (["--instance", "a/b"], "instance"),
        (["--instance", "a+"], "instance"),
        (["--instance", "a\nb"], "instance"),
        (["--instance", "a\x7fb"], "instance"),
        (["--instance", "a\uffffb"], "instance"),
        (["--topic", "a\x01/{device}"], "control character"),
        (["--topic", "harstream/{device}/status", "--instance", "i"], "'harstream/i/status'"),
        (["--labels-topic", "harstream/i/{device}", "--instance", "i"], "'harstream/i/status'"),
        (["--idle-s", "0.5"], "idle-s"),
        (["--idle-s", "nan"], "idle-s"),
        (["--max-devices", "0"], "max-devices"),
        (["--max-payload-bytes", "63"], "max-payload-bytes"),
        (["--max-devices", "many"], "max-devices"),
        (["--ca", "/etc/hostname", "--broker", "mqtt://host"], "mqtts://"),
        (["--key", "/etc/hostname", "--broker", "mqtts://host"], "cert"),
        (["--ca", "/none.pem", "--broker", "mqtts://host"], "/none.pem"),
        (["--password-file", "/none", "--broker", "mqtt://u@host"], "/none"),
        (["--password-file", "/etc/hostname", "--broker", "mqtt://host", "--mqtt-version", "3.1.1"], "needs MQTT 5"),
        (["--alpn", "mqtt", "--broker", "ws://host"], "need an mqtts:// or wss:// address, got ws://"),
        (["--alpn", "m" * 256, "--broker", "mqtts://host"], "alpn: expected a name of 1 to 255 bytes"),
        (["--client-id", "a\tb", "--broker", "mqtt://host"], "client-id: expected printable characters"),
        (["--no-such-flag"], "no-such-flag"),
    ],
)
def test_a_bad_value_is_named_and_exits_2(run, flags, message):
    code, output, served = run(*flags)
    assert (code, served) == (2, None), output
    assert message in output


def test_smoothing_is_the_bundles_unless_overruled():
    bundle = Smoothing("hmm", 0.6)
    assert RunConfig().smoothing_of(bundle) == bundle
    assert RunConfig(unknown_below=0.0).smoothing_of(bundle) == Smoothing("hmm")
    assert RunConfig(smoothing="none").smoothing_of(bundle) == Smoothing()
    assert RunConfig(smoothing="none", unknown_below=0.7).smoothing_of(bundle) == Smoothing("none", 0.7)


def test_events_may_be_turned_off():
    assert RunConfig(events_topic="off").sources[0].events_template is None


def test_the_host_name_makes_an_instance_that_a_topic_can_hold(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "my host/1+#")
    assert RunConfig().status_topic == "harstream/my-host-1--/status"


@pytest.mark.parametrize(
    ("text", "host", "port", "tls", "user", "password"),
    [
        ("host", "host", 1883, False, None, None),
        ("host:99", "host", 99, False, None, None),
        ("mqtt://host", "host", 1883, False, None, None),
        ("mqtts://host", "host", 8883, True, None, None),
        ("mqtt://u:p@host:5", "host", 5, False, "u", "p"),
        ("mqtt://u@host", "host", 1883, False, "u", None),
        ("mqtt://u%40x:p%2Fq%3A@host", "host", 1883, False, "u@x", "p/q:"),
        ("mqtt://[::1]:7", "::1", 7, False, None, None),
        ("192.168.0.9:1884/", "192.168.0.9", 1884, False, None, None),
        ("tcp://host", "host", 1883, False, None, None),
        ("ssl://host", "host", 8883, True, None, None),
        ("tls://host:443", "host", 443, True, None, None),
        ("ws://host", "host", 80, False, None, None),
        ("wss://u:p@host", "host", 443, True, "u", "p"),
        ("mqtt://:p@host", "host", 1883, False, None, "p"),
        ("mqtt://u:p@host\n", "host", 1883, False, "u", "p"),
    ],
)
def test_addresses_of_brokers(text, host, port, tls, user, password):
    url = BrokerUrl.parse(text)
    assert (url.host, url.port, url.tls, url.user, url.password) == (host, port, tls, user, password)


def test_an_address_is_shown_without_user_password_and_query():
    assert str(BrokerUrl.parse(f"mqtts://ann:{SECRET}@[::1]")) == "mqtts://[::1]:8883"
    assert str(BrokerUrl.parse(f"wss://ann:{SECRET}@host/a/b?token={SECRET}")) == "wss://host:443/a/b"
    assert str(BrokerUrl.parse("tcp://host")) == "mqtt://host:1883"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("mqtt://host", None),
        ("ws://host", "/mqtt"),
        ("ws://host/", "/"),
        ("wss://host/a/b?x=1&y=2", "/a/b?x=1&y=2"),
    ],
)
def test_a_web_socket_has_a_path(text, path):
    assert BrokerUrl.parse(text).path == path


def test_a_secret_that_ends_in_a_line_break_is_used_without_it(run):
    """Kubernetes secrets and files often end in one."""
    _, _, served = run(broker="mqtt://host\n", user="ann\n", password=f"{SECRET}\r\n", instance="i\n")
    assert (served.instance, broker_of(served).url) == ("i", BrokerUrl("host", 1883, user="ann", password=SECRET))
    code, output, _ = run("--broker", "host", password="\n")
    assert (code, "HARSTREAM_RUN_PASSWORD is empty" in output) == (2, True)


def test_a_password_without_a_user_is_for_mqtt_5_only():
    settings = broker_of(RunConfig(broker="host", password=SECRET))
    assert (settings.url.user, settings.url.password, settings.versions) == (None, SECRET, ("5",))
    assert broker_of(RunConfig(broker="host", password=SECRET, user="ann")).versions == ("5", "3.1.1")


@pytest.mark.parametrize(
    "address",
    [
        f"mqtt://ann:{SECRET}@host/path",
        f"http://ann:{SECRET}@host",
        f"mqtt://ann:{SECRET}@host:port",
        f"mqtt://ann:{SECRET}@",
        f"mqtt://ann:{SECRET}@[::1",
        # Characters that should have been percent-encoded end the address early, within the password.
        f"mqtt://ann:{SECRET}/x@host",
        f"mqtt://ann:{SECRET}#x@host",
        f"mqtt://ann:{SECRET}?x@host:1883",
        f"ann:{SECRET}/@host",
    ],
)
def test_no_error_repeats_a_password(run, address):
    code, output, served = run("--broker", address)
    assert (code, served) == (2, None)
    assert SECRET not in output
    assert "broker" in output


def test_no_way_of_printing_settings_shows_a_password(tmp_path, caplog):
    (tmp_path / "password").write_text(f"{SECRET}\n")
    by_url = RunConfig(broker=f"mqtt://ann:{SECRET}@host")
    by_file = RunConfig(broker="mqtt://host", user="ann", password_file=tmp_path / "password")
    for run_config in (by_url, by_file):
        settings = broker_of(run_config)
        assert (settings.url.user, settings.url.password) == ("ann", SECRET)
        with caplog.at_level(logging.DEBUG):
            logging.getLogger("test").info("%s %r %s %r %s", run_config, run_config, settings, settings, settings.url)
        for text in (
            str(run_config),
            repr(run_config),
            str(settings),
            repr(settings),
            str(settings.url),
            repr(settings.url),
        ):
            assert SECRET not in text
    assert SECRET not in caplog.text


def test_user_and_password_file_overrule_those_of_the_address(tmp_path):
    (tmp_path / "password").write_text("from file\r\n")
    run_config = RunConfig(broker="mqtt://u:p@host", user="other", password_file=Path(tmp_path / "password"))
    settings = broker_of(run_config)
    assert (settings.url.user, settings.url.password) == ("other", "from file")


def test_an_empty_variable_is_an_error_and_not_the_default():
    with pytest.raises(ConfigError, match="HARSTREAM_RUN_BROKER is empty"):
        check_environment({"HARSTREAM_RUN_BROKER": ""})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("qos = true", "qos: expected a whole number, got True"),
        ("max-devices = 1.5", "max-devices: expected a whole number, got 1.5"),
        ("broker = 5", "broker: expected a text, got int"),
        ('idle-s = "60"', "idle-s: expected a number, got '60'"),
        ("idle-s = 60\nidle_s = 60", "is given twice"),
    ],
)
def test_a_value_of_another_type_in_a_file_is_an_error(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_file(path)


@pytest.mark.parametrize("url", ["127.0.0.1:0", "mqtt://:secret@host:0"])
def test_a_meaningless_address_is_an_error(url):
    with pytest.raises(ConfigError) as refused:
        config.RunConfig(broker=url)
    assert "secret" not in str(refused.value)


# --- several brokers, secrets -------------------------------------------------------------------------


def test_several_brokers_are_addresses_of_one(run, toml):
    wanted = [BrokerUrl("a", 1883), BrokerUrl("b", 1884)]
    for _, _, served in (
        run("--broker", "mqtt://a", "--broker", "b:1884"),
        run(broker="mqtt://a b:1884"),
        run("--config", toml('broker = ["mqtt://a", "b:1884"]')),
        run("--config", toml('broker = "mqtt://a b:1884"')),
    ):
        assert list(broker_of(served).urls) == wanted
    with pytest.raises(ConfigError, match="are mixed"):
        RunConfig(broker="mqtt://a mqtts://b").read_broker_settings()
    with pytest.raises(ConfigError, match="different users or passwords"):
        RunConfig(broker="ann:1@a bob:2@b")
    for url in broker_of(RunConfig(broker="ann:1@a b")).urls:
        assert (url.user, url.password) == ("ann", "1")


def test_no_error_about_a_files_broker_repeats_it(run, toml):
    code, output, _ = run("--config", toml(f'broker = ["mqtt://ann:{SECRET}@h", 1]'))
    assert (code, SECRET in output) == (2, False)


def test_a_password_may_come_from_the_environment_but_from_no_file_of_settings(run, toml):
    _, _, served = run("--broker", "h", "--user", "ann", password=SECRET)
    assert broker_of(served).url.password == SECRET
    code, output, _ = run("--config", toml(f'password = "{SECRET}"'))
    assert code == 2
    assert "password-file" in output
    assert SECRET not in output


def test_a_password_on_the_command_line_moves_into_the_environment():
    arguments = ["run", "--broker", f"mqtts://ann:{SECRET}@h", "--qos=0", f"--broker=bob:{SECRET}@g:1"]
    environment = {"A": "b", "HARSTREAM_RUN_BROKER": f"mqtts://ann:{SECRET}@h bob:{SECRET}@g:1"}
    assert move_passwords(arguments, {"A": "b"}) == (["run", "--qos=0"], environment)
    assert move_passwords(["run", "--broker", "mqtt://h:1883"], {}) is None
    assert move_passwords(["run", "--broker", "ann@h:1883"], {}) is None
    assert move_passwords(["run", "--broker", "wss://h/p"], {}) is None
    assert move_passwords([], {}) is None
    token = f"wss://h/p?token={SECRET}"
    assert move_passwords(["watch", "--broker", token], {}) == (["watch"], {"HARSTREAM_WATCH_BROKER": token})


def test_shown_addresses_hide_passwords_and_queries():
    assert config.hide_passwords("a ann@b ann:x@c ws://d?x wss://ann:x@e/p?x") == (
        "a ann@b ann:***@c ws://d?*** wss://ann:***@e/p?***"
    )


# --- declaration and files ----------------------------------------------------------------------------


def test_every_option_has_a_help_text_and_its_default_is_allowed():
    for option in config.OPTIONS.values():
        assert option.help.endswith("."), option.name
        assert option.check(option.default) == option.default, option.name


def test_only_the_environment_may_hold_the_password():
    assert [name for name in config.OPTIONS if name not in config.KEYS] == ["password"]
    assert "--password" not in {opt for parameter in main.commands["run"].params for opt in parameter.opts}


def test_flags_and_the_file_have_the_same_limits(run, toml):
    for option in config.OPTIONS.values():
        if option.kind in (int, float):
            below = option.minimum - 1
            assert run(f"--{option.flag}={below:g}")[0] == 2, option.name
            code, output, _ = run("--config", toml(f"{option.name} = {below:g}"))
            assert code == 2, option.name
            assert f"{option.name}: " in output


def test_a_device_may_be_kept_for_ever(run, toml):
    assert run("--idle-s", "inf")[2].idle_s == run("--config", toml("idle-s = inf"))[2].idle_s == float("inf")
    assert "idle_s = inf  # --idle-s" in CliRunner().invoke(main, ["config", "show", "--idle-s", "inf"]).output


def test_the_password_file_is_read_by_one_call_only_and_each_time(tmp_path):
    path = tmp_path / "password"
    run_config = RunConfig(broker="mqtt://ann@host", password_file=path)  # does not look at the file
    with pytest.raises(ConfigError, match=f"password-file: {path}: No such file"):
        run_config.read_broker_settings()
    for password in ("first", "second"):
        path.write_text(f"{password}\n")
        assert broker_of(run_config).url.password == password


def test_only_one_of_the_two_places_may_hold_a_password(tmp_path):
    with pytest.raises(ConfigError, match="HARSTREAM_RUN_PASSWORD holds a password too"):
        RunConfig(broker="mqtt://ann@host", password="x", password_file=tmp_path / "password")


# --- harstream config ---------------------------------------------------------------------------------


def test_show_prints_every_setting_with_its_help_value_and_source(toml, monkeypatch):
    path = toml('instance = "ward-3"\nqos = 0\nbroker = ["mqtts://ann:' + SECRET + '@h", "mqtts://g"]')
    monkeypatch.setenv("HARSTREAM_RUN_MODEL", "wrist")
    monkeypatch.setenv("HARSTREAM_RUN_PASSWORD", SECRET)
    done = CliRunner().invoke(main, ["config", "show", "--config", path, "--qos", "1", "--user", "bob"])
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    assert "qos = 1  # --qos" in done.output
    assert 'model = "wrist"  # HARSTREAM_RUN_MODEL' in done.output
    assert f'instance = "ward-3"  # {path}' in done.output
    assert 'broker = "mqtts://ann:***@h mqtts://g"' in done.output
    assert "HARSTREAM_RUN_PASSWORD" in done.output
    shown = tomllib.loads(done.output)
    assert set(shown) <= set(config.KEYS)
    for key in config.KEYS:
        lines = done.output.splitlines()
        [index] = [index for index, line in enumerate(lines) if re.match(rf"(# )?{key} = ", line)]
        assert lines[index - 1].startswith("# "), key


def test_the_output_of_show_is_a_file_with_the_same_settings(run, toml):
    shown = CliRunner().invoke(main, ["config", "show", "--idle-s", "7.5", "--http", "off"]).output
    _, _, served = run("--config", toml(shown))
    assert served == RunConfig(idle_s=7.5, http="off")


def test_check_loads_the_model_and_names_what_is_wrong(random_bundle, own_bundle, toml):
    def check(*flags: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["config", "check", *flags])
        return done.exit_code, done.output

    assert check("--model", str(random_bundle), "--broker", "mqtt://h") == (
        0,
        "good: model random@0.0.1 (litert), broker mqtt://h:1883\n",
    )
    code, output = check("--config", toml("labels-topik = 1"))
    assert (code, "did you mean 'labels_topic'?" in output) == (2, True)
    (own_bundle / "model.tflite").write_bytes(b"other")
    code, output = check("--model", str(own_bundle))
    assert (code, "sha256" in output) == (3, True)


def test_durable_mode_needs_a_broker_and_qos_1_and_has_a_fixed_client_identifier(tmp_path):
    with pytest.raises(ConfigError, match="state-dir: the embedded broker keeps no session; give a broker"):
        RunConfig(state_dir=tmp_path)
    with pytest.raises(ConfigError, match="state-dir: qos 0 means"):
        RunConfig(broker="host", state_dir=tmp_path, qos=0)
    durable = RunConfig(broker="host", state_dir=tmp_path, instance="here").read_broker_settings()
    assert durable is not None
    assert durable.client_id == "harstream-here"
    named = RunConfig(broker="host", state_dir=tmp_path, client_id="mine").read_broker_settings()
    assert named is not None
    assert named.client_id == "mine"


def test_the_fields_of_a_message_are_a_table_of_the_file(run, toml):
    path = toml('payload = "fields"\naxes = ["-y", "x", "z"]\n[fields]\nacc = ["ax", "ay", "az"]\nt = "ts"\n')
    served = run("--config", path)[2]
    payload = served.sources[0].payload_config
    assert (payload.fields.acc, payload.fields.t, payload.fields.t_unit) == (("ax", "ay", "az"), "ts", "auto")
    assert (payload.axes.columns, payload.axes.signs) == ((1, 0, 2), (-1, 1, 1))
    assert run("--payload", "fields", "--fields", served.fields.to_toml())[2].fields == served.fields


TWO = {"acc_topic": "w/{device}/accelerometer", "gyro_topic": "w/{device}/gyroscope"}


def test_two_topics_for_two_sensors_in_all_three_ways(run, toml):
    by_file = run("--config", toml("".join(f'{key} = "{value}"\n' for key, value in TWO.items())))[2]
    by_flags = run(*(f"--{key.replace('_', '-')}={value}" for key, value in TWO.items()))[2]
    assert by_file == by_flags == run(**TWO)[2]
    assert by_file.samples_filters() == ("w/+/accelerometer", "w/+/gyroscope")
    assert by_file.sources[0].samples_topics == "w/{device}/accelerometer and w/{device}/gyroscope"
    assert RunConfig(acc_topic="w/{device}", gyro_topic="w/{device}").samples_filters() == ("w/+",)
    both = RunConfig(acc_topic="{partition}/{device}/a", gyro_topic="{partition}/{device}/g", partitions="1-2")
    assert both.samples_filters(both.served_partitions) == ("1/+/a", "2/+/a", "1/+/g", "2/+/g")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"acc_topic": "w/{device}/a"}, "acc-topic: it goes with gyro-topic"),
        ({"gyro_topic": "w/{device}/a"}, "gyro-topic: it goes with acc-topic"),
        ({**TWO, "topic": "x/{device}"}, "topic: acc-topic and gyro-topic are in its place"),
        ({**TWO, "gyro_topic": "gyroscope"}, r"only one has a level \{device\}"),
        ({**TWO, "gyro_topic": "{partition}/{device}/g"}, r"only one has a level \{partition\}"),
        ({**TWO, "gyro_topic": "w/+/g"}, "gyro-topic: 'w/[+]/g' has a wildcard"),
        ({"acc_topic": "w/{device}/a", "gyro_topic": "{device}/x/a"}, "gyro-topic: .* match the same topics"),
        ({**TWO, "labels_topic": "w/{device}/gyroscope"}, "labels-topic: .* and gyro-topic .* match the same topics"),
        ({**TWO, "gyro_topic": "harstream/{device}/status"}, "gyro-topic: .* matches the daemon's status topic"),
        ({**TWO, "partitions": "1"}, r"partitions: the topic 'w/\{device\}/accelerometer' has no level"),
    ],
)
def test_two_topics_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig(instance="i", **settings)


def test_a_topic_without_a_device_is_one_whose_payload_names_it(run):
    served = run("--topic", "sensor-logger", "--payload", "sensor-logger")[2]
    assert not served.sources[0].samples_template.has_device
    assert served.sources[0].samples_template.subscription == "sensor-logger"


def test_the_embedded_broker_listens_where_the_settings_say(run):
    assert RunConfig().listen_address is None
    assert run("--listen", "0.0.0.0")[2].listen_address == ("0.0.0.0", None)
    assert run("--listen", "[::]:1884")[2].listen_address == ("::", 1884)
    with pytest.raises(ConfigError, match=r"listen: 'everywhere' is not an IP address"):
        RunConfig(listen="everywhere")
    with pytest.raises(ConfigError, match="listen: it is for the embedded broker, but broker names another"):
        RunConfig(listen="0.0.0.0", broker="mqtt://h")
