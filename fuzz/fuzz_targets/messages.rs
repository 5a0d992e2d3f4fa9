//! Decoding blocks, transactions and every other message: refused, or exactly the canonical bytes.
//!
//! The first byte of an input chooses the message.
#![no_main]

use chain_types::proto as p;
use chain_types::{decode_canonical, decode_transaction, encode_canonical};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fn check<M: Message + Default + PartialEq>(data: &[u8]) {
    if let Ok(message) = decode_canonical::<M>(data) {
        assert_eq!(encode_canonical(&message), data);
    }
    // What is not canonical has one canonical form, and that form is a fixed point.
    if let Ok(message) = M::decode(data) {
        let bytes = encode_canonical(&message);
        assert!(decode_canonical::<M>(&bytes) == Ok(message));
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, data)) = input.split_first() else {
        return;
    };
    match choice % 20 {
        0 => {
            check::<p::Transaction>(data);
            if let Ok(checked) = decode_transaction(data) {
                let payload = encode_canonical(&checked.payload);
                assert_eq!(checked.tx_id, chain_types::tx_id(&payload));
                assert_eq!(checked.wid, chain_types::wid(data));
                assert_eq!(
                    checked.sender_address,
                    chain_types::address(&checked.sender())
                );
                assert!(checked
                    .endorsements
                    .windows(2)
                    .all(|pair| pair[0].0 < pair[1].0));
            }
        }
        1 => check::<p::Block>(data),
        2 => check::<p::BlockHeader>(data),
        3 => check::<p::Proposal>(data),
        4 => check::<p::Vote>(data),
        5 => check::<p::CommitCertificate>(data),
        6 => check::<p::Evidence>(data),
        7 => check::<p::TransactionBatch>(data),
        8 => check::<p::Receipt>(data),
        9 => check::<p::ReceiptProof>(data),
        10 => check::<p::Genesis>(data),
        11 => check::<p::ChainConfig>(data),
        12 => check::<p::Member>(data),
        13 => check::<p::MemberChange>(data),
        14 => check::<p::ContractPackage>(data),
        15 => check::<p::ContractRecord>(data),
        16 => check::<p::BlockContext>(data),
        17 => check::<p::ResultStep>(data),
        18 => check::<p::Payload>(data),
        _ => check::<p::Organisation>(data),
    }
});
