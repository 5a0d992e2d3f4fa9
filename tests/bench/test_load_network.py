"""The network that a benchmark loads says which of its nodes is gone."""

import signal
from pathlib import Path

import pytest

from chainnode.bench.load_network import NODES, LoadNetwork
from chainnode.types.errors import ConfigError


@pytest.mark.slow
def test_a_node_that_ended_is_named_with_its_log(tmp_path: Path) -> None:
    network = LoadNetwork(tmp_path)
    try:
        network.start()
        assert len(network.usage()) == NODES
        gone = network._processes[2]
        gone.send_signal(signal.SIGKILL)
        gone.wait(10)
        with pytest.raises(ConfigError) as refused:
            network.usage()
    finally:
        network.close()
    place = network.layout.nodes[2]
    assert refused.value.code == "TESTNET_NODE_FAILED"
    assert refused.value.subject == str(place.log)
    assert f"{place.name} ended with status -9" in refused.value.message
