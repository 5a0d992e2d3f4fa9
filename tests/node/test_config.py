"""Settings: every mistake is named by its key."""

from pathlib import Path

import pytest

from chainnode.node.config import load_config
from chainnode.node.testnet import prepare
from chainnode.types.errors import ConfigError

GOOD = """
name = "bank-a/node"
genesis = "genesis.bin"
identity = "identity"
data_dir = "data"
listen = "127.0.0.1:26600"
"""


def load(folder: Path, text: str) -> object:
    path = folder / "node.toml"
    path.write_text(text)
    return load_config(path)


def test_paths_are_relative_to_the_file_and_defaults_fill_in(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.genesis == tmp_path / "genesis.bin"
    assert (config.loop, config.metrics, config.peers) == ("uvloop", "", ())


def test_threads_can_be_counted_and_pinned(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD + "executor_threads = 3\nexecutor_pinned = true\n")
    assert (config.executor_threads, config.executor_pinned) == (3, True)
    assert load(tmp_path, GOOD).executor_pinned is False


@pytest.mark.parametrize(
    ("extra", "code", "key"),
    [
        ("pool_transaction_max = 5", "CONFIG_KEY_UNKNOWN", "pool_transaction_max"),
        ("pool_transactions_max = 0", "CONFIG_VALUE_WRONG", "pool_transactions_max"),
        ("pool_transactions_max = true", "CONFIG_VALUE_WRONG", "pool_transactions_max"),
        ("executor_threads = 0", "CONFIG_VALUE_WRONG", "executor_threads"),
        ("executor_pinned = 1", "CONFIG_VALUE_WRONG", "executor_pinned"),
        ("executor_threads = 1025", "CONFIG_VALUE_WRONG", "executor_threads"),
        ('loop = "trio"', "CONFIG_VALUE_WRONG", "loop"),
        ('log_level = "loud"', "CONFIG_VALUE_WRONG", "log_level"),
        ('metrics = "9000"', "CONFIG_VALUE_WRONG", "metrics"),
        ('metrics = "127.0.0.1:99999"', "CONFIG_VALUE_WRONG", "metrics"),
        ("peers = 3", "CONFIG_VALUE_WRONG", "peers[0]"),
        ('peers = [{name = "x"}]', "CONFIG_VALUE_WRONG", "peers[0]"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, extra: str, code: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD + extra)
    assert (caught.value.code, caught.value.subject) == (code, key)


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace("listen", "metrics"))
    assert (caught.value.code, caught.value.subject) == ("CONFIG_KEY_MISSING", "listen")


def test_what_is_no_file_and_what_is_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as absent:
        load_config(tmp_path / "absent.toml")
    assert absent.value.code == "CONFIG_NOT_FOUND"
    with pytest.raises(ConfigError) as broken:
        load(tmp_path, "name =")
    assert broken.value.code == "CONFIG_NOT_TOML"


def test_a_testnet_is_the_same_for_the_same_seed_and_survives_preparing_again(
    tmp_path: Path,
) -> None:
    one, other = prepare(tmp_path / "one", seed=3), prepare(tmp_path / "other", seed=3)
    different = prepare(tmp_path / "different", seed=4)

    def key(layout: object, name: str) -> bytes:
        return (layout.identities[name] / "sign.key.pem").read_bytes()  # type: ignore[attr-defined]

    assert key(one, "bank-a/node") == key(other, "bank-a/node")
    assert key(one, "bank-a/node") != key(different, "bank-a/node")
    genesis = one.genesis.read_bytes()
    assert prepare(tmp_path / "one", seed=3).genesis.read_bytes() == genesis
    config = load_config(one.nodes[0].config)
    assert [peer.name for peer in config.peers] == [place.name for place in one.nodes[1:]]


def test_a_folder_keeps_the_number_of_nodes_its_chain_began_with(tmp_path: Path) -> None:
    # Written again for four, seven validators would never meet for a quorum of five.
    before = prepare(tmp_path, nodes=7)
    text = before.nodes[0].config.read_text()
    with pytest.raises(ConfigError, match=r"TESTNET_NODES_DIFFER.*7 nodes, not 4.*--nodes 7"):
        prepare(tmp_path)
    assert before.nodes[0].config.read_text() == text
    assert prepare(tmp_path, nodes=7) == before
