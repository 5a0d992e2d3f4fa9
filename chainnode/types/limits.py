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
FUTURE_VOTES_PER_PEER_MAX: Final = 64
FUTURE_PROPOSALS_PER_PEER_MAX: Final = 1
TIMEOUT_ROUNDS_MAX: Final = 16
"""Rounds of one height whose timeouts grow."""
EVIDENCE_AGE_MAX_HEIGHTS: Final = 100
EVIDENCE_KEPT_MAX: Final = 4 * EVIDENCE_PER_BLOCK_MAX
ROTATION_SLOTS_MAX: Final = 10_000
"""Slots of one rotation of proposers: the sum of voting powers over their common divisor."""
WAL_RECORD_SIZE_MAX_BYTES: Final = 64 * MEBI
BLOCK_LOG_RECORD_SIZE_MAX_BYTES: Final = 4 * BLOCK_SIZE_MAX_BYTES
BLOCK_LOG_SEGMENT_SIZE_MAX_BYTES: Final = 256 * MEBI

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
BLOB_HASHES_PER_REQUEST_MAX: Final = 10_000

# Contracts
CONTRACT_CODE_SIZE_MAX_BYTES: Final = 512 * KIBI
CONTRACT_MEMORY_MAX_BYTES: Final = 64 * MEBI
CONTRACT_EVENT_SIZE_MAX_BYTES: Final = 64 * KIBI
CONTRACT_EVENTS_PER_TRANSACTION_MAX: Final = 256
CONTRACT_VALUE_SIZE_MAX_BYTES: Final = 256 * KIBI
CONTRACT_KEY_SIZE_MAX_BYTES: Final = 1 * KIBI
CONTRACT_SCAN_ROWS_MAX: Final = 1_000
CONTRACT_STORAGE_FIELDS_MAX: Final = 255
"""A key begins with the number of its field, in one byte."""
CONTRACT_REVERT_TEXT_MAX_BYTES: Final = 1 * KIBI
CONTRACT_CALL_DEPTH_MAX: Final = 8
"""Contracts that call one another at once; the memory above is that of all of them."""
CONTRACT_CALLS_PER_TRANSACTION_MAX: Final = 256

# Queries
SQL_LENGTH_MAX_CHARACTERS: Final = 8_192
SQL_DEPTH_MAX: Final = 32
SQL_GROUPS_MAX: Final = 4_096
SQL_PRODUCTS_MAX: Final = 4_096
"""Products of columns that one condition expands to."""
SQL_VALUE_PARTS_MAX: Final = 64
"""Parts that the argument of one aggregate expands to."""
SCORE_BANDS_MAX: Final = 32
SCORE_MODELS_MAX: Final = 8
"""Scorecards of one query: each is another vector as long as the registry."""
DIFFERENCING_CELLS_MAX: Final = 1 << 20
"""Cells of two groups together; beyond it they are not compared."""
DIFFERENCING_GROUPS_MAX: Final = 64
"""Earlier groups, the latest ones, that are looked at together."""
DIFFERENCING_SYSTEM_CELLS_MAX: Final = 1 << 13
"""Cells of all groups looked at together; groups on further columns are left out."""
DIFFERENCING_CANDIDATES_MAX: Final = 1 << 12
"""Combinations held in memory at once."""

# Tables and the key council
TABLE_ROWS_MAX: Final = 100_000_000
COLUMN_INDICATORS_MAX: Final = 4_096
"""Of one column or joint: each is a ciphertext column of its own."""
NUMBER_DIGITS_MAX: Final = 15
COUNCIL_MEMBERS_MAX: Final = 8
"""C(8, 4) = 70 pieces at most: each is a full party of the key ceremony."""
RELEASE_UNITS_MAX: Final = 2**24
"""What a key share may open in all, in units of the least noisy opening."""

# Processes beside the node
SERVICE_RESTARTS_PER_HOUR_MAX: Final = 10
SERVICE_START_MAX_MS: Final = 120_000
SERVICE_HANG_MAX_MS: Final = 30_000
WORKER_OPEN_FILES_MAX: Final = 4_096
WORKER_RESULTS_KEPT_MAX: Final = 256
