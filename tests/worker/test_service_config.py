"""The TOML of a worker or keyholder: every mistake names its key."""

from pathlib import Path

import pytest

from chainnode.he.cuda.settings import CudaSettings
from chainnode.he.ray_engine import RaySettings
from chainnode.sdk.service_config import load_service_config
from chainnode.types.errors import ConfigError

GOOD = """
name = "bank-a/worker"
genesis = "/g/genesis.bin"
identity = "/g/identity"
data_dir = "/g/data"
node = "127.0.0.1:26600"
listen = "127.0.0.1:26602"
threads = 2
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "worker.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_full_file_is_read(tmp_path: Path) -> None:
    config = load_service_config(write(tmp_path, GOOD))
    assert config.nodes == ("127.0.0.1:26600",)
    assert (config.listen, config.threads, config.tick_ms) == ("127.0.0.1:26602", 2, 2_000)


def test_the_cuda_table_counts_with_the_cuda_engine_only(tmp_path: Path) -> None:
    table = "[cuda]\ndevice = 1\ndevice_memory_max_mib = 100\n"
    assert load_service_config(write(tmp_path, GOOD + table)).cuda is None
    config = load_service_config(write(tmp_path, GOOD + 'engine = "cuda"\n' + table))
    assert (config.cuda, config.ray) == (CudaSettings(1, 100), None)
    bare = load_service_config(write(tmp_path, GOOD + 'engine = "cuda"\n[cuda]\ndevice = 0\n'))
    assert bare.cuda == CudaSettings()


def test_the_ray_table_counts_with_the_ray_engine_only(tmp_path: Path) -> None:
    table = '[ray]\naddress = "head:6379"\nshards = 8\n'
    assert load_service_config(write(tmp_path, GOOD + table)).ray is None
    config = load_service_config(write(tmp_path, GOOD + 'engine = "ray"\n' + table))
    assert config.ray == RaySettings("head:6379", 8)
    bare = load_service_config(write(tmp_path, GOOD + 'engine = "ray"\n'))
    assert bare.ray == RaySettings()


def test_several_nodes_keep_their_order(tmp_path: Path) -> None:
    text = GOOD.replace('node = "127.0.0.1:26600"', 'nodes = ["b:2", "a:1"]')
    assert load_service_config(write(tmp_path, text)).nodes == ("b:2", "a:1")


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("name =", "nmae =", "CONFIG_KEY_UNKNOWN"),
        ('genesis = "/g/genesis.bin"', "", "CONFIG_KEY_MISSING"),
        ('node = "127.0.0.1:26600"', "", "CONFIG_KEY_MISSING"),
        ("threads = 2", "threads = 0", "CONFIG_VALUE_INVALID"),
        ("threads = 2", "threads = true", "CONFIG_VALUE_INVALID"),
        ('"/g/data"', "7", "CONFIG_VALUE_INVALID"),
        ("threads = 2", "threads =", "CONFIG_UNREADABLE"),
        ("threads = 2", 'engine = "spark"', "CONFIG_VALUE_INVALID"),
        ("threads = 2", "ray = 3", "CONFIG_VALUE_INVALID"),
        ("threads = 2", "[ray]\nadress = 'a:1'", "CONFIG_KEY_UNKNOWN"),
        ("threads = 2", "[ray]\nshards = 0", "CONFIG_VALUE_INVALID"),
        ("threads = 2", "[ray]\nshards = true", "CONFIG_VALUE_INVALID"),
        ("threads = 2", "[cuda]\ndevice = -1", "CONFIG_VALUE_INVALID"),
        ("threads = 2", "[cuda]\ndevice_memory_max_mib = 0", "CONFIG_VALUE_INVALID"),
        ("threads = 2", "[cuda]\nnumber = 0", "CONFIG_KEY_UNKNOWN"),
        ("threads = 2", "[ray]\naddress = 6379", "CONFIG_VALUE_INVALID"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, code: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_service_config(write(tmp_path, GOOD.replace(old, new)))
    assert refused.value.code == code
    assert "worker.toml" in refused.value.subject


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CONFIG_UNREADABLE"):
        load_service_config(tmp_path / "absent.toml")
