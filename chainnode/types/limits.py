"""Every limit, in one table. Units are in the names; sizes are decoded sizes unless said."""

from typing import Final

KIBI: Final = 1024
MEBI: Final = 1024 * KIBI

# Transactions and the pool
TRANSACTION_SIZE_MAX_BYTES: Final = 1 * MEBI
ENDORSEMENTS_MAX: Final = 64
EXPIRY_WINDOW_BLOCKS: Final = 1_000
POOL_TRANSACTIONS_MAX: Final = 50_000
POOL_SIZE_MAX_BYTES: Final = 128 * MEBI
SUBMIT_BATCH_TRANSACTIONS_MAX: Final = 2_000
SUBMIT_BATCH_SIZE_MAX_BYTES: Final = 4 * MEBI

# Blocks and consensus
BLOCK_TRANSACTIONS_MAX: Final = 10_000
BLOCK_SIZE_MAX_BYTES: Final = 16 * MEBI
VALIDATORS_MAX: Final = 100
EVIDENCE_PER_BLOCK_MAX: Final = 16
FUTURE_ROUNDS_KEPT_MAX: Final = 2
FUTURE_HEIGHTS_KEPT_MAX: Final = 1

# Network
GRPC_MESSAGE_SIZE_MAX_BYTES: Final = 24 * MEBI
GRPC_METADATA_SIZE_MAX_BYTES: Final = 8 * KIBI
GRPC_CONCURRENT_RPCS_MAX: Final = 512
GRPC_RPCS_FOR_PEERS: Final = 64
"""Of these so many are kept free of clients: validators must reach each other."""
RPCS_PER_MEMBER_MAX: Final = 256
PEER_QUEUE_MESSAGES_MAX: Final = 4_096
PEER_EVENTS_MAX: Final = 512
"""Consensus messages of one peer that wait for the engine; a proposal counts by its wids."""
PEER_EVENT_WIDS: Final = 100
GOSSIP_BATCH_TRANSACTIONS_MAX: Final = 16_384
GOSSIP_QUEUE_BATCHES_MAX: Final = 1_024
GOSSIP_QUEUE_SIZE_MAX_BYTES: Final = 64 * MEBI
PEER_QUEUE_SIZE_MAX_BYTES: Final = 64 * MEBI
SYNC_BLOCKS_PER_REQUEST_MAX: Final = 64
SUBSCRIBER_QUEUE_BLOCKS_MAX: Final = 1_024
TX_WAIT_MAX_MS: Final = 60_000
EXECUTOR_THREADS_MAX: Final = 1_024
VIEW_WAIT_MAX_MS: Final = 2_000
GRAPH_BLOCKS_MAX: Final = 256
GRAPH_SIZE_MAX_BYTES: Final = 32 * MEBI
"""Memory of the read and write sets from which the graphs of so many last blocks are drawn."""
GRAPHS_DRAWN_MAX: Final = 4
TRACE_SIZE_MAX_BYTES: Final = 256 * MEBI

# Blobs (homomorphic data plane)
BLOB_FRAME_SIZE_MAX_BYTES: Final = 1 * MEBI
BLOB_SIZE_MAX_BYTES: Final = 64 * MEBI

# Contracts
CONTRACT_CODE_SIZE_MAX_BYTES: Final = 512 * KIBI
CONTRACT_MEMORY_MAX_BYTES: Final = 64 * MEBI
CONTRACT_EVENT_SIZE_MAX_BYTES: Final = 64 * KIBI
CONTRACT_EVENTS_PER_TRANSACTION_MAX: Final = 256
CONTRACT_VALUE_SIZE_MAX_BYTES: Final = 256 * KIBI
CONTRACT_KEY_SIZE_MAX_BYTES: Final = 1 * KIBI
CONTRACT_SCAN_ROWS_MAX: Final = 1_000
CONTRACT_CALL_DEPTH_MAX: Final = 8
"""Contracts that call one another at once; the memory above is that of all of them."""
CONTRACT_CALLS_PER_TRANSACTION_MAX: Final = 256

# Queries
SQL_LENGTH_MAX_CHARACTERS: Final = 8_192
SQL_DEPTH_MAX: Final = 32
SCORE_MODELS_MAX: Final = 8
"""Scorecards of one query: each is another vector as long as the registry."""

# Processes beside the node
SERVICE_RESTARTS_PER_HOUR_MAX: Final = 10
SERVICE_START_MAX_MS: Final = 120_000
SERVICE_HANG_MAX_MS: Final = 30_000
